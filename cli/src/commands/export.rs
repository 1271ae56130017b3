//! `bqwitness export [filters] -o FILE.bqw`

use serde_json::json;

use crate::Verdict;
use crate::args::{ExportArgs, Format};
use crate::claims;
use crate::error::CliError;
use crate::export::{Asked, export};
use crate::reader::{Reader, read_policy};
use crate::render::Output;
use crate::text::{counted, on_one_line};

pub(crate) fn run(args: &ExportArgs, out: Output) -> Result<Verdict, CliError> {
    let reader = Reader::new(&args.reader)?;
    let held = reader.key(args.key.as_deref())?;
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let asked = Asked { query: args.filter.query(&args.reader), held: &held, policy: policy.as_ref() };
    let report = export(&reader, &asked, &args.file)?;
    let contents = &report.manifest.contents;
    match out.format {
        Format::Json => out.json(&json!({
            "file": args.file,
            "manifest": report.digest,
            "export": report.export,
            "entries": contents.entries,
            "calls": contents.calls,
            "bytes": report.bytes,
            "verified": report.is_verified(),
        }))?,
        Format::Table => {
            let file = args.file.display();
            out.line(&on_one_line(&format!(
                "{file}: {} with {}, {} bytes. The log has this export as entry {}.",
                counted(contents.entries, "entry"),
                counted(contents.calls, "call"),
                report.bytes,
                report.export
            )))?;
            let open = claims::open(&report.manifest, &report.authority);
            open.iter().try_for_each(|line| out.line(&on_one_line(&format!("Not proved: {line}"))))?;
            out.line(&on_one_line(&format!("Anyone can check it: bqwitness verify {file} --key LOG.vkey")))?;
        }
    }
    Ok(if report.is_verified() { Verdict::Holds } else { Verdict::DoesNotHold })
}
