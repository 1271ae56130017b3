//! As much of a kubelet as a pod needs to run here: volumes with tokens of the API server's, names, containers in their order,
//! probes. Needs root.
//!
//! ```text
//! the pod's network namespace
//!   bqwitness-redirect, bqwitness-proxy, agent: processes of this machine, each with a mount namespace of its own,
//!   in which the paths of the spec hold: volumes, /etc/hosts, /etc/resolv.conf
//! ```
//!
//! There are no images. The sidecar's is a folder with our programs and public roots that know the stand-ins of Google's; the
//! users' is this machine. Everything else is taken from the pod as the API server has it, and what this kubelet does not know
//! is an error.

mod container;
mod node;
mod status;
mod volumes;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use self::container::Container;
use self::volumes::Volumes;
use crate::agent::{Finished, finish};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::programs;
use crate::trouble::{Doing as _, Result, Trouble};

pub use self::container::Image;
pub use self::node::Node;

/// What a pod is given besides its spec.
#[derive(Debug)]
pub struct Surroundings {
    /// Its network.
    pub namespace: Namespace,
    /// The cluster's name server.
    pub name_server: IpAddr,
    /// The sidecar's image.
    pub image: Image,
}

/// A pod that runs. Dropped, its containers are killed, and then its network is gone.
#[derive(Debug)]
pub struct RunningPod {
    /// Init containers that go on, by name.
    sidecars: Vec<(String, Process)>,
    /// Those that have ended, by name.
    pub initialised: Vec<(String, Finished)>,
    metadata: Value,
    spec: Value,
    volumes: Volumes,
    surroundings: Surroundings,
    folder: PathBuf,
}

impl RunningPod {
    /// Starts a pod that is bound to `node`: its volumes, then its init containers in their order. A sidecar must pass its startup
    /// probe, and each of the others end well, before the next one starts.
    ///
    /// # Errors
    /// Something of the spec is not known here, or a container does not start.
    pub async fn start(node: &Node, pod: &Value, surroundings: Surroundings, folder: &Path) -> Result<Self> {
        let inside = surroundings.namespace.inside();
        let volumes = Volumes::set_up(node, pod, inside, surroundings.name_server, folder).await?;
        for sysctl in list(&pod["spec"]["securityContext"]["sysctls"]) {
            surroundings.namespace.set_sysctl(text(sysctl, "name")?, text(sysctl, "value")?)?;
        }
        let mut running = Self {
            sidecars: Vec::new(),
            initialised: Vec::new(),
            metadata: pod["metadata"].clone(),
            spec: pod["spec"].clone(),
            volumes,
            surroundings,
            folder: folder.into(),
        };
        for container in list(&pod["spec"]["initContainers"]) {
            running.initialise(container).await?;
        }
        Ok(running)
    }

    async fn initialise(&mut self, container: &Value) -> Result<()> {
        let name = text(container, "name")?.to_owned();
        if container["restartPolicy"] == "Always" {
            let process = self.start_sidecar(&name, container).await?;
            self.sidecars.push((name, process));
            return Ok(());
        }
        let finished = self.run_to_end(container).await?;
        if !finished.success() {
            return Err(Trouble::new(format!("init container {name} failed: {}", finished.said())));
        }
        self.initialised.push((name, finished));
        Ok(())
    }

    async fn start_sidecar(&self, name: &str, container: &Value) -> Result<Process> {
        let words = self.words(container)?;
        let mut command = std::process::Command::new(&words[0]);
        let mut process = Process::start(name, command.args(&words[1..]), &self.folder)?;
        self.probe(&mut process, &container["startupProbe"]).await?;
        Ok(process)
    }

    /// Kills a sidecar, as a crash does.
    ///
    /// # Errors
    /// There is no such sidecar.
    pub fn crash(&mut self, name: &str) -> Result<()> {
        self.sidecar(name)?.kill()
    }

    /// Starts a sidecar again that has crashed, as the kubelet does: it alone, with the same volumes.
    ///
    /// # Errors
    /// There is no such sidecar, or it does not start again.
    pub async fn start_again(&mut self, name: &str) -> Result<()> {
        let container = list(&self.spec["initContainers"]).iter().find(|container| container["name"] == name);
        let container = container.ok_or_else(|| Trouble::new(format!("no sidecar {name}")))?;
        let started = self.start_sidecar(name, container).await?;
        *self.sidecar(name)? = started;
        Ok(())
    }

    /// A sidecar's process: to be killed, signalled.
    ///
    /// # Errors
    /// There is no such sidecar.
    pub fn sidecar(&mut self, name: &str) -> Result<&mut Process> {
        let found = self.sidecars.iter_mut().find(|(sidecar, _)| sidecar == name);
        found.map(|(_, process)| process).ok_or_else(|| Trouble::new(format!("no sidecar {name}")))
    }

    /// What a port of the pod answers to a GET, as whoever scrapes it reads it.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn page(&self, port: u16, path: &str) -> Result<String> {
        programs::page(&format!("http://{}:{port}{path}", self.surroundings.namespace.inside())).await
    }

    /// As long as the spec says that it may take; looked at more often than a kubelet would.
    async fn probe(&self, process: &mut Process, probe: &Value) -> Result<()> {
        let number = |name: &str| {
            probe[name].as_u64().ok_or_else(|| Trouble::new(format!("a startup probe without {name}")))
        };
        let limit = Duration::from_secs(number("periodSeconds")? * number("failureThreshold")?);
        let (port, path) = (&probe["httpGet"]["port"], text(&probe["httpGet"], "path")?);
        let address = format!("http://{}:{port}{path}", self.surroundings.namespace.inside());
        process.until("startup", limit, || programs::answers_well(&address)).await
    }

    /// Runs one of the users' containers to its end.
    ///
    /// # Errors
    /// There is no such container, or it hangs. That it fails is no error: see [`Finished::success`].
    pub async fn run(&self, name: &str) -> Result<Finished> {
        let container = list(&self.spec["containers"]).iter().find(|container| container["name"] == name);
        self.run_to_end(container.ok_or_else(|| Trouble::new(format!("no container {name}")))?).await
    }

    /// Runs another command in one of the users' containers, as `kubectl exec` does.
    ///
    /// # Errors
    /// As [`RunningPod::run`].
    pub async fn exec(&self, name: &str, command: &[&str]) -> Result<Finished> {
        let container = list(&self.spec["containers"]).iter().find(|container| container["name"] == name);
        let mut container = container.ok_or_else(|| Trouble::new(format!("no container {name}")))?.clone();
        container["command"] = command.into();
        container["args"] = Value::Null;
        self.run_to_end(&container).await
    }

    /// What a sidecar has printed.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let found = self.sidecars.iter().find(|(sidecar, _)| sidecar == name);
        found.map(|(_, process)| process.log()).unwrap_or_default()
    }

    /// Ends its sidecars in order, the last first.
    ///
    /// # Errors
    /// One does not end, or not well.
    pub async fn stop(mut self) -> Result<()> {
        while let Some((name, process)) = self.sidecars.pop() {
            let status = process.stop().await?;
            if !status.success() {
                return Err(Trouble::new(format!("{name} ended with {status}")));
            }
        }
        Ok(())
    }

    async fn run_to_end(&self, container: &Value) -> Result<Finished> {
        let words = self.words(container)?;
        let mut command = tokio::process::Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/").stdin(std::process::Stdio::null());
        finish(command).await
    }

    fn words(&self, container: &Value) -> Result<Vec<String>> {
        let Surroundings { namespace, image, .. } = &self.surroundings;
        Container { pod: &self.spec, container, volumes: &self.volumes, image }.words(&namespace.path())
    }
}

/// The items of an array; of anything else, none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text that must be there.
fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().ok_or_else(|| Trouble::new(format!("no {name} in {value}")))
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).doing(format!("writing {}", path.display()))
}
