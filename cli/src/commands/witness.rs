//! `bqwitness witness`: cosigns checkpoints of the logs that it is given, for ever.

use ledger::log_keys::LogKeys;
use tokio::net::TcpListener;

use crate::Verdict;
use crate::args::{Format, WitnessArgs};
use crate::error::CliError;
use crate::reader::read_key;
use crate::render::Output;
use crate::witness::{State, load_or_make_key, serve};

/// The keys of each log together: two of one log are both its, while its key is changed.
fn by_log(read: Vec<LogKeys>) -> Vec<LogKeys> {
    let mut logs: Vec<LogKeys> = Vec::new();
    for keys in read {
        match logs.iter_mut().find(|known| known.name() == keys.name()) {
            Some(known) => *known = known.with(&keys),
            None => logs.push(keys),
        }
    }
    logs
}

pub(crate) fn run(args: &WitnessArgs, out: Output) -> Result<Verdict, CliError> {
    let failed = |error| CliError::File { path: args.state.clone(), error };
    let logs = by_log(args.log.iter().map(|log| read_key(log)).collect::<Result<_, _>>()?);
    let key = load_or_make_key(&args.state, &args.name).map_err(failed)?;
    let vkey = key.verifier().to_string();
    let state = State::open(&args.state, key, logs).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&args.listen).await?;
        let listen = listener.local_addr()?;
        match out.format {
            Format::Json => out.json(&serde_json::json!({ "listen": listen, "vkey": vkey }))?,
            Format::Table => {
                out.line(&format!("Witness {vkey}\nlistens on http://{listen}/add-checkpoint"))?;
            }
        }
        serve(listener, state).await;
        Ok(Verdict::Holds)
    })
}
