//! The command line as shells, scripts and terminals meet it: exit statuses, colours, completions.

use bqwitness_tests::programs::program;
use http::StatusCode;

use crate::evidence::{ANSWER, Desk};
use crate::stand::{Stand, query};

/// A verifier key of no log here.
const OTHER_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

const MANIFEST: &str = r#"
{apiVersion: bqwitness.dev/v1alpha1, kind: BigQueryConnection, metadata: {name: billing, namespace: agents},
 spec: {pods: {serviceAccountName: billing}, identity: {mode: Passthrough}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: agents},
 spec: {serviceAccountName: billing, containers: [{name: a, image: "a:1"}]}}
"#;

/// 0: done, and what was verified holds; 1: something does not hold; 2: it could not run. Of every command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_statuses() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    assert_eq!(query(&stand, &sidecar, "SELECT 1").await.0, StatusCode::OK);
    assert!(sidecar.stop("test").await);
    std::fs::write(stand.path("agent.yaml"), MANIFEST).unwrap();
    std::fs::write(stand.path("broken.yaml"), "a: [").unwrap();
    let desk = Desk::new(&stand, &recorder);
    let sessions = desk.run(&["sessions", "--wait", "5", "--output", "json"]).await;
    let session = sessions.stdout.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let first = line.get("session").or_else(|| line.pointer("/sessions/0/session"))?.as_str()?.to_owned();
        Some(first)
    });
    let session = session.unwrap_or_else(|| panic!("a session: {}{}", sessions.stdout, sessions.stderr));
    let (data, url) = (stand.data().display().to_string(), format!("https://{}", recorder.address));

    let holds: &[&[&str]] = &[
        &["access"],
        &["search"],
        &["search", "--table", "no.such"],
        &["sessions"],
        &["show", "1"],
        &["proof", "1"],
        &["replay", &session],
        &["connections"],
        &["coverage", "--from", "1h"],
        &["export", "-o", "all.bqw"],
        &["verify", "all.bqw"],
        &["monitor", "--state", "seen"],
        &["monitor", "--state", "seen"],
        &["keys"],
        &["verify-log", &url],
        &["verify-log", &data],
        &["inject", "-f", "agent.yaml"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
        &["help", "search"],
    ];
    let does_not_hold: &[&[&str]] = &[
        &["show", "1", "--key", OTHER_KEY],
        &["proof", "1", "--key", OTHER_KEY],
        &["export", "-o", "other.bqw", "--key", OTHER_KEY],
        &["verify", "all.bqw", "--key", OTHER_KEY],
        &["monitor", "--state", "other", "--key", OTHER_KEY],
        &["verify-log", &url, "--key", OTHER_KEY],
        &["verify-log", &data, "--key", OTHER_KEY],
        &["tail", "--key", OTHER_KEY],
    ];
    let cannot_run: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["search", "--no-such-flag"],
        &["search", "--words", "="],
        &["search", "--token-file", "no-such-file"],
        &["show", "1000000"],
        &["show", "1", "--key", "no-such-file"],
        &["replay", "01890000-0000-7000-8000-000000000000"],
        &["export", "-o", "no-such-folder/all.bqw"],
        &["verify", "no-such-file.bqw"],
        &["verify", "agent.yaml", "--key", "no-such-file"],
        &["verify-log", "no-such-folder"],
        &["inject", "-f", "no-such-file.yaml"],
        &["inject", "-f", "broken.yaml"],
        &["witness", "--name", "w", "--log", "no-such-file", "--state", "w"],
        &["completions", "no-such-shell"],
    ];
    for (code, commands) in [(0, holds), (1, does_not_hold), (2, cannot_run)] {
        for command in commands {
            let said = desk.run(command).await;
            assert_eq!(said.code, Some(code), "{command:?}: {}{}", said.stdout, said.stderr);
            let told = match code {
                0 => said.stderr.is_empty(),
                1 => !said.stdout.is_empty() || !said.stderr.is_empty(), // a finding is an answer
                _ => said.stdout.is_empty() && !said.stderr.is_empty(),
            };
            assert!(told, "{command:?} says on one side {:?}, on the other {:?}", said.stdout, said.stderr);
        }
    }
    assert!(!stand.path("other.bqw").exists(), "what does not hold is not kept");

    // The recorder is gone: nobody could find out.
    recorder.stop().await;
    for command in [
        &["access"][..],
        &["search"],
        &["tail"],
        &["sessions"],
        &["show", "1"],
        &["proof", "1"],
        &["replay", &session],
        &["connections"],
        &["coverage", "--from", "1h"],
        &["export", "-o", "late.bqw"],
        &["monitor", "--state", "seen"],
        &["keys"],
        &["verify-log", &url],
    ] {
        let said = desk.run(command).await;
        assert_eq!(said.code, Some(2), "{command:?}: {}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains("can't be reached"), "{command:?}: {}", said.stderr);
    }
}

/// Through a pseudo terminal, which `script` makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colours_are_for_terminals() {
    const ESCAPE: char = '\u{1b}';
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    assert_eq!(query(&stand, &sidecar, "SELECT 1").await.0, StatusCode::OK);
    assert!(sidecar.stop("test").await);
    let desk = Desk::new(&stand, &recorder);
    let bqwitness = program("bqwitness").unwrap().display().to_string();
    let colored = async |terminal: bool, command: &str, more: &[(&str, &str)]| {
        let line = format!("'{bqwitness}' {command}");
        let script = ["--quiet", "--return", "--flush", "--command", &line, "/dev/null"];
        let said = if terminal {
            desk.run_as("script".as_ref(), &script, more).await
        } else {
            desk.run_as("sh".as_ref(), &["-c", &line], more).await
        };
        assert_eq!(said.code, Some(0), "{command}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("billing"), "{command}: {}", said.stdout);
        said.stdout.contains(ESCAPE)
    };
    for command in ["search --wait 5", "sessions"] {
        assert!(colored(true, command, &[]).await, "{command}");
        assert!(!colored(false, command, &[]).await, "{command}");
        assert!(!colored(true, command, &[("NO_COLOR", "1")]).await, "{command}");
        assert!(colored(true, command, &[("NO_COLOR", "")]).await, "{command}: an empty one does not count");
        assert!(!colored(true, &format!("{command} --color never"), &[]).await, "{command}");
        assert!(!colored(true, &format!("{command} --output json"), &[]).await, "{command}");
        assert!(
            colored(false, &format!("{command} --color always"), &[("NO_COLOR", "1")]).await,
            "{command}"
        );
    }
    recorder.stop().await;
}

/// What the tab key gives in a real bash, which was told of the program as `--help` says.
#[test]
fn bash_completes() {
    let bqwitness = program("bqwitness").unwrap();
    let completed = |words: &str| {
        let script = r#"
            set -eu
            source <("$BQWITNESS" completions bash)
            function=$(complete -p bqwitness | sed 's/.*-F \([^ ]*\).*/\1/')
            COMP_WORDS=($WORDS "") COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            last=${WORDS##* }
            if [ "${WORDS: -1}" != " " ]; then unset 'COMP_WORDS[-1]'; COMP_CWORD=$((COMP_CWORD - 1)); else last=; fi
            "$function" bqwitness "$last" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let mut bash = std::process::Command::new("bash");
        bash.args(["--noprofile", "--norc", "-c", script]).env("BQWITNESS", &bqwitness).env("WORDS", words);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed("bqwitness se"), ["search", "sessions"]);
    assert_eq!(completed("bqwitness verify-l"), ["verify-log"]);
    assert_eq!(completed("bqwitness search --ta"), ["--table"]);
    assert_eq!(completed("bqwitness search --result "), ["answered", "refused", "failed", "aborted", "open"]);
    assert_eq!(completed("bqwitness --color ne"), ["never"]);
    assert!(completed("bqwitness ").contains(&"replay".to_owned()));
    assert!(completed("bqwitness completions ").contains(&"zsh".to_owned()));
}

/// Every shell gets a script, also one that reads no more than its beginning.
#[test]
fn every_shell_gets_its_completions() {
    let bqwitness = program("bqwitness").unwrap();
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef bqwitness"),
        ("fish", "complete -c bqwitness"),
        ("elvish", "edit:completion:arg-completer[bqwitness]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let output = std::process::Command::new(&bqwitness).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty() && script.contains(mark),
            "{shell}: {script}"
        );
        assert!(
            ["sessions", "replay", "verify-log"].iter().all(|command| script.contains(command)),
            "{shell}"
        );
        let closed = std::process::Command::new("bash")
            .args([
                "-c",
                r#"set -o pipefail; "$0" completions "$1" | head -c 1 >/dev/null; echo "${PIPESTATUS[0]}""#,
            ])
            .arg(&bqwitness)
            .arg(shell)
            .output()
            .unwrap();
        assert_eq!((&closed.stdout[..], &closed.stderr[..]), (&b"0\n"[..], &b""[..]), "{shell}");
    }
}
