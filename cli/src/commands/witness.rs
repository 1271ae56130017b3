//! `bqwitness witness`: cosigns checkpoints of the logs that it is given, for ever.

use tokio::net::TcpListener;

use crate::Verdict;
use crate::args::{Format, WitnessArgs};
use crate::error::CliError;
use crate::reader::read_key;
use crate::render::Output;
use crate::witness::{State, load_or_make_key, serve};

pub(crate) fn run(args: &WitnessArgs, out: Output) -> Result<Verdict, CliError> {
    let failed = |error| CliError::File { path: args.state.clone(), error };
    let logs = args.log.iter().map(|log| read_key(log)).collect::<Result<Vec<_>, _>>()?;
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
