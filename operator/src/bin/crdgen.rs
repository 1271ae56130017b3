//! Writes the files that are made from the code: `cargo run -p bqwitness-operator --bin crdgen`, anywhere in the project.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    for file in bqwitness_operator::generate::all() {
        let path = root.join(file.path);
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, file.content));
        if let Err(error) = written {
            // When standard error is closed too, the exit code still says it.
            let _told = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("crdgen: {}: {error}\n", path.display()),
            )
            .is_ok();
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
