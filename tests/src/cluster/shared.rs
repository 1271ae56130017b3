//! One control plane for all tests of a program.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use super::ControlPlane;
use crate::trouble::{Doing as _, Result, Trouble};

type Started = std::result::Result<Option<&'static ControlPlane>, String>;

pub(super) fn get() -> Result<Option<&'static ControlPlane>> {
    static SHARED: OnceLock<Started> = OnceLock::new();
    SHARED.get_or_init(start).clone().map_err(Trouble::new)
}

/// Its processes end with the thread that starts them: one that lives as long as the program.
fn start() -> Started {
    let (sender, started) = channel();
    let thread = std::thread::Builder::new().name("control plane".into());
    let thread = thread.spawn(move || own(&sender)).map_err(|error| error.to_string())?;
    started.recv().unwrap_or_else(|_| Err(format!("the thread {:?} ended", thread.thread().name())))
}

fn own(sender: &Sender<Started>) {
    let started = run().map_err(|trouble| trouble.to_string());
    let running = matches!(started, Ok(Some(_)));
    let heard = sender.send(started).is_ok();
    if running && heard {
        loop {
            std::thread::park();
        }
    }
}

fn run() -> Result<Option<&'static ControlPlane>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let started = runtime.doing("making a runtime")?.block_on(ControlPlane::start())?;
    Ok(started.map(|plane| &*Box::leak(Box::new(plane))))
}
