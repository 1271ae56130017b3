//! `--print-config`, as the program itself prints it: it can be given back with `--config`, and holds no secret.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::process::{Command, Output};

const SECRET: &str = "a-secret-of-this-test";

fn run(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bqwitness-recorder"));
    command.args(arguments).envs(variables.iter().copied()).current_dir(dir);
    command.output().unwrap()
}

fn printed(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(dir, arguments, variables);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    text
}

/// Every setting that there is, said in one of three ways that can't be said together.
const COMMON: &[&str] = &[
    "--data=a folder \"with\" \\ and \u{e9}",
    "--listen=127.0.0.1:8443",
    "--admin=[::1]:9090",
    "--origin=example.com/log",
    "--tls-cert=tls.crt",
    "--tls-key=secret",
    "--issuer=https://issuer.example.com",
    "--audience=a",
    "--reader-audience=b",
    "--jwks-ca=ca.pem",
    "--jwks-token=secret",
    "--cluster=prod",
    "--operator=system/operator,other/operator",
    "--reader=audit/auditor",
    "--access-review=https://10.0.0.1:443",
    "--user-tokens",
    "--witness-policy=policy",
    "--wait-for-witnesses=7",
    "--port-file=ports.json",
    "--log-level=debug,hyper=info",
    "--log-format=json",
];

const WAYS: [&str; 3] =
    ["--jwks=https://issuer.example.com/keys", "--jwks=discovery", "--token-review=https://10.0.0.1:443"];

#[test]
fn what_is_printed_is_a_settings_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["secret", "tls.crt", "policy"] {
        std::fs::write(dir.path().join(name), SECRET).unwrap();
    }
    for way in WAYS {
        let mut arguments = COMMON.to_vec();
        arguments.extend([way, "--print-config"]);
        let text = printed(dir.path(), &arguments, &[]);
        for argument in COMMON.iter().chain([&way]) {
            let (name, _) = argument[2..].split_once('=').unwrap_or((&argument[2..], ""));
            assert!(
                text.lines().any(|line| line.starts_with(&format!("{name} = "))),
                "{name} is not in {text}"
            );
        }
        std::fs::write(dir.path().join("settings"), &text).unwrap();
        assert_eq!(printed(dir.path(), &["--config=settings", "--print-config"], &[]), text, "{way}");
        // A flag wins over a variable, and that over the file.
        let variables = [("BQWITNESS_CLUSTER", "from-variable"), ("BQWITNESS_AUDIENCE", "from-variable")];
        let more = ["--config", "settings", "--print-config", "--cluster", "from-flag"];
        let text = printed(dir.path(), &more, &variables);
        for line in ["cluster = \"from-flag\"", "audience = \"from-variable\"", "reader-audience = \"b\""] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
        }
    }
}

/// 2: settings that can't be used, all of them named at once; 1: it could not start.
#[test]
fn exit_statuses() {
    let dir = tempfile::tempdir().unwrap();
    let bad = run(dir.path(), &["--listen=nowhere", "--print-config"], &[]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!((bad.status.code(), &bad.stdout[..]), (Some(2), &b""[..]));
    assert!(["--listen: ", "--data: ", "--issuer: "].iter().all(|part| said.contains(part)), "{said}");
    for arguments in [&["--no-such-flag"][..], &["--config=no-such-file"], &["key"], &["backup", "--to=x"]] {
        assert_eq!(run(dir.path(), arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    let mut arguments = COMMON.to_vec();
    arguments.push("--jwks=no-such-file");
    let failed = run(dir.path(), &arguments, &[]);
    let said =
        String::from_utf8_lossy(&failed.stdout).into_owned() + &String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("--jwks"), "{said}");
}

/// A password in a URL would be printed, and logged.
#[test]
fn a_url_has_no_password() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["--jwks=", "--token-review=", "--access-review="] {
        let url = format!("{url}https://user:{SECRET}@issuer.example.com/");
        let mut arguments: Vec<_> =
            COMMON.iter().copied().filter(|argument| !argument.starts_with("--access-review")).collect();
        arguments.extend([&url, "--print-config"]);
        if !url.starts_with("--jwks") && !url.starts_with("--token-review") {
            arguments.push("--jwks=keys.json");
        }
        let output = run(dir.path(), &arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(SECRET), "{url}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(SECRET), "{url}");
    }
}
