//! `bqwitness access`: who you are to the recorder, and what you may read.

use ledger::search::access::Access;

use crate::Verdict;
use crate::args::{Format, ReaderArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::Output;
use crate::text::on_one_line;

pub(crate) fn run(args: &ReaderArgs, out: Output) -> Result<Verdict, CliError> {
    let access = Reader::new(args)?.access()?;
    match out.format {
        Format::Json => out.json(&access)?,
        Format::Table => lines(&access).iter().try_for_each(|line| out.line(&on_one_line(line)))?,
    }
    Ok(Verdict::Holds)
}

fn lines(access: &Access) -> Vec<String> {
    let who = format!("{}, of cluster {}, may read", access.reader, access.cluster);
    if access.everything {
        return vec![format!("{who} everything")];
    }
    let readable = access.clusters.iter().map(|readable| match readable.namespaces.as_deref() {
        None => format!("{who} all of cluster {}", readable.cluster),
        Some([]) => format!("{who} nothing"),
        Some(names) => format!("{who} namespaces {}", names.join(", ")),
    });
    let lines: Vec<_> = readable.collect();
    if lines.is_empty() { vec![format!("{who} nothing")] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::search::access::Readable;

    #[test]
    fn what_may_be_read_is_said() {
        let access = |everything, namespaces: Option<Option<&[&str]>>| Access {
            reader: "audit/auditor".into(),
            cluster: "prod".into(),
            everything,
            clusters: namespaces
                .into_iter()
                .map(|names| Readable {
                    cluster: "prod".into(),
                    namespaces: names.map(|names| names.iter().map(|name| (*name).into()).collect()),
                })
                .collect(),
        };
        let said = |access: Access| lines(&access).join("\n");
        let who = "audit/auditor, of cluster prod, may read";
        assert_eq!(said(access(true, None)), format!("{who} everything"));
        assert_eq!(said(access(false, None)), format!("{who} nothing"));
        assert_eq!(said(access(false, Some(Some(&[])))), format!("{who} nothing"));
        assert_eq!(said(access(false, Some(None))), format!("{who} all of cluster prod"));
        assert_eq!(
            said(access(false, Some(Some(&["agents", "sales"])))),
            format!("{who} namespaces agents, sales")
        );
    }
}
