//! `bqwitness inject -f agent.yaml --connection connection.yaml`

use std::io::{Read as _, Write as _};
use std::path::Path;

use connection::BigQueryConnection;
use connection::inject::{NotInjected, Settings};
use connection::manifest::{self, Outcome};
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::{Format, InjectArgs};
use crate::error::CliError;
use crate::render::Output;

pub(crate) fn run(args: &InjectArgs, out: Output) -> Result<Verdict, CliError> {
    let objects = read(&args.file)?;
    let connection = match &args.connection {
        Some(path) => the_connection(path, &read(path)?)?,
        None => the_connection(&args.file, &objects)?,
    };
    let settings = Settings {
        image: args.image.clone(),
        image_pull_policy: None,
        recorder: args.recorder.clone(),
        audience: args.audience.clone(),
    };
    let (mut becomes, mut injected, mut refused) = (Vec::with_capacity(objects.len()), 0, false);
    for object in objects {
        match manifest::inject(&object, &connection, &settings) {
            Ok(Outcome::Untouched) => becomes.push(object),
            Ok(Outcome::Injected(result)) => {
                for conflict in &result.conflicts {
                    note(&format!("{}: {conflict}", title(&object)))?;
                }
                injected += 1;
                becomes.push(result.pod);
            }
            Err(NotInjected::Malformed(error)) => {
                let message = format!("{}: {error}", title(&object));
                return Err(CliError::Manifest { path: args.file.clone(), message });
            }
            Err(NotInjected::Refused(refusals)) => {
                refused = true;
                for refusal in refusals {
                    note(&format!("{} can't be recorded: {refusal}", title(&object)))?;
                }
            }
        }
    }
    if refused {
        return Ok(Verdict::DoesNotHold); // half a manifest would look like a whole one
    }
    if injected == 0 {
        note("the connection selects no pod of this manifest; nothing was changed")?;
    }
    print(becomes, &args.file, out)?;
    Ok(Verdict::Holds)
}

/// The objects of a file, those of Lists each for itself.
fn read(path: &Path) -> Result<Vec<Value>, CliError> {
    let failed = |error| CliError::File { path: path.into(), error };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(failed)?
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| CliError::Manifest { path: path.into(), message: error.to_string() })?;
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = document["kind"] == "List";
        match document.get_mut("items") {
            Some(Value::Array(items)) if is_list => objects.append(items),
            _ => objects.push(document),
        }
    }
    objects.retain(|object| !object.is_null()); // an empty document between two markers
    Ok(objects)
}

fn the_connection(path: &Path, objects: &[Value]) -> Result<BigQueryConnection, CliError> {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == "BigQueryConnection").collect();
    let [one] = found.as_slice() else {
        return Err(CliError::Connection { path: path.into(), found: found.len() });
    };
    serde_json::from_value((*one).clone()).map_err(|error| CliError::Manifest {
        path: path.into(),
        message: format!("{}: {error}", title(one)),
    })
}

fn print(objects: Vec<Value>, path: &Path, out: Output) -> Result<(), CliError> {
    if out.format == Format::Json {
        out.json(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
        return Ok(());
    }
    for object in objects {
        let yaml = serde_saphyr::to_string(&object)
            .map_err(|error| CliError::Manifest { path: path.into(), message: error.to_string() })?;
        out.line(&format!("---\n{}", yaml.trim_end()))?;
    }
    Ok(())
}

/// To standard error: standard output is a manifest.
fn note(text: &str) -> Result<(), CliError> {
    writeln!(std::io::stderr(), "bqwitness: {}", crate::text::printable(text))?;
    Ok(())
}

fn title(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().or_else(|| object["metadata"]["generateName"].as_str());
    format!("{} {}", object["kind"].as_str().unwrap_or("an object"), name.unwrap_or("without a name"))
}
