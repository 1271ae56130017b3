//! What the metadata server answers. Pure. The paths are those that `bq`, Python, Node, Go and Java ask for; what is not here
//! is not found, which all of them take for "not on this machine".

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::FLAVOR;
use crate::bigquery::decode_parameter;
use crate::identity::Facts;
use crate::identity::placeholder::LIFETIME;

const ROOT: &str = "/computeMetadata/v1";
const ACCOUNTS: &str = "/instance/service-accounts/";

/// What agents are told that their token is good for. What the real one is good for, the settings say.
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform"];

/// The service account's name where the identity has no e-mail address: one that can't be Google's.
const NOBODY: &str = "pod@bqwitness.invalid";

/// The project's number where nobody has said it. Clients want digits, and do nothing with them.
const NO_NUMBER: &str = "0";

/// What is asked.
#[derive(Debug)]
pub struct Question {
    path: String,
    is_get: bool,
    recursive: bool,
    /// The header that a page in a browser, or a server that is made to ask, can't send.
    is_deliberate: bool,
    /// Somebody else asks through this client.
    is_forwarded: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A placeholder is to be made.
    Token,
    /// A text.
    Text(String),
    /// A JSON document.
    Json(Value),
    /// An error.
    Error(StatusCode, &'static str),
}

impl Question {
    /// The question in this head.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let recursive = uri.query().unwrap_or_default().split('&').any(|pair| {
            pair.split_once('=')
                .is_some_and(|(name, value)| name == "recursive" && value.eq_ignore_ascii_case("true"))
        });
        Self {
            path: decode_parameter(uri.path()),
            is_get: matches!(*method, Method::GET | Method::HEAD),
            recursive,
            is_deliberate: headers
                .get(FLAVOR)
                .is_some_and(|flavor| flavor.as_bytes().eq_ignore_ascii_case(b"google")),
            is_forwarded: headers.contains_key("x-forwarded-for"),
        }
    }
}

impl Answer {
    /// There is nothing at this path.
    pub const NOT_FOUND: Self = Self::Error(StatusCode::NOT_FOUND, "not found\n");

    /// Status, type and body; `token` is the body of [`Answer::Token`].
    #[must_use]
    pub fn parts(self, token: String) -> (StatusCode, &'static str, String) {
        match self {
            Self::Token => (StatusCode::OK, "application/json", token),
            Self::Text(text) => (StatusCode::OK, "application/text", text),
            Self::Json(value) => (StatusCode::OK, "application/json", value.to_string()),
            Self::Error(status, text) => (status, "text/plain; charset=utf-8", text.into()),
        }
    }
}

/// The answer's body for a token.
#[must_use]
pub fn token(placeholder: &str) -> String {
    json!({ "access_token": placeholder, "expires_in": LIFETIME.as_secs(), "token_type": "Bearer" })
        .to_string()
}

/// The answer. `principal` is the Google identity, as far as it is known.
#[must_use]
pub fn answer(question: &Question, facts: &Facts, principal: Option<&str>) -> Answer {
    if !question.is_get {
        return Answer::Error(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    if question.is_forwarded {
        return Answer::Error(
            StatusCode::FORBIDDEN,
            "X-Forwarded-For: the metadata server is for this pod alone\n",
        );
    }
    // The presence probes, which some clients send without the header.
    if matches!(question.path.as_str(), "/" | "/computeMetadata" | "/computeMetadata/" | ROOT) {
        return Answer::Text("computeMetadata/\n".into());
    }
    let Some(path) = question.path.strip_prefix(ROOT) else { return Answer::NOT_FOUND };
    if !question.is_deliberate {
        return Answer::Error(StatusCode::FORBIDDEN, "Missing required header: Metadata-Flavor: Google\n");
    }
    let text = |text: &str| Answer::Text(text.to_owned());
    match path {
        "/" => text("instance/\nproject/\nuniverse/\n"),
        "/instance" | "/instance/" => text("service-accounts/\n"),
        "/project" | "/project/" => text("numeric-project-id\nproject-id\n"),
        "/project/project-id" => facts.project.as_deref().map_or(Answer::NOT_FOUND, text),
        "/project/numeric-project-id" => text(facts.project_number.as_deref().unwrap_or(NO_NUMBER)),
        "/universe/universe-domain" | "/universe/universe_domain" => text("googleapis.com"),
        path => match path.strip_prefix(ACCOUNTS) {
            Some(rest) => account(rest, question.recursive, email(facts, principal)),
            None => Answer::NOT_FOUND,
        },
    }
}

/// An e-mail address, or what can stand for one.
fn email<'a>(facts: &'a Facts, principal: Option<&'a str>) -> &'a str {
    let known = facts.email.as_deref().or(principal);
    known.filter(|name| name.contains('@') && !name.contains('/')).unwrap_or(NOBODY)
}

/// What is below `service-accounts/`.
fn account(path: &str, recursive: bool, email: &str) -> Answer {
    let whole = json!({ "aliases": ["default"], "email": email, "scopes": SCOPES });
    if path.is_empty() {
        return match recursive {
            true => Answer::Json(json!({ "default": whole, email: whole })),
            false => Answer::Text(format!("default/\n{email}/\n")),
        };
    }
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    if name != "default" && name != email {
        return Answer::NOT_FOUND;
    }
    match rest {
        "" if recursive => Answer::Json(whole),
        "" => Answer::Text("aliases\nemail\nscopes\ntoken\n".into()),
        "token" => Answer::Token,
        "email" => Answer::Text(email.into()),
        "aliases" => Answer::Text("default\n".into()),
        "scopes" => Answer::Text(SCOPES.map(|scope| format!("{scope}\n")).concat()),
        // `identity` would be a token that others believe.
        _ => Answer::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let email = Some("billing@acme.iam.gserviceaccount.com".to_owned());
        Facts { project: Some("acme".into()), project_number: Some("42".into()), email }
    }

    fn asked(path: &str, headers: &[(&'static str, &'static str)]) -> (u16, String) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let question = Question::of(&Method::GET, &path.parse().unwrap(), &headers);
        let (status, _, text) = answer(&question, &facts(), None).parts(token("placeholder"));
        (status.as_u16(), text)
    }

    fn google(path: &str) -> (u16, String) {
        asked(path, &[("metadata-flavor", "Google")])
    }

    /// As measured: facts of the clients, each with its probe.
    #[test]
    fn what_clients_ask_for() {
        for probe in [
            "/",
            "/computeMetadata/v1",
            "/computeMetadata/v1/instance",
            "/computeMetadata/v1/project/numeric-project-id",
        ] {
            assert_eq!(google(probe).0, 200, "{probe}");
        }
        assert_eq!(asked("/", &[]).0, 200, "Python's ping");
        let v1 = |path: &str| google(&format!("/computeMetadata/v1{path}"));
        assert_eq!(v1("/project/project-id"), (200, "acme".into()));
        assert_eq!(v1("/universe/universe-domain").1, "googleapis.com");
        let email = "billing@acme.iam.gserviceaccount.com";
        assert_eq!(v1("/instance/service-accounts/").1, format!("default/\n{email}/\n"));
        assert_eq!(v1("/instance/service-accounts/default/email").1, email);
        for name in ["default", email, "billing%40acme.iam.gserviceaccount.com"] {
            let whole: Value =
                serde_json::from_str(&v1(&format!("/instance/service-accounts/{name}/?recursive=true")).1)
                    .unwrap();
            assert_eq!((&whole["email"], &whole["aliases"][0]), (&json!(email), &json!("default")));
            let scopes = "?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fbigquery";
            let token: Value =
                serde_json::from_str(&v1(&format!("/instance/service-accounts/{name}/token{scopes}")).1)
                    .unwrap();
            assert_eq!(
                token,
                json!({"access_token": "placeholder", "expires_in": 900, "token_type": "Bearer"})
            );
        }
        assert_eq!(v1("/instance/service-accounts/default/identity?audience=x&format=standard").0, 404);
        assert_eq!(v1("/instance/service-accounts/other@x/token").0, 404);
        assert_eq!(v1("/instance/platform-security/auto-mtls-configuration").0, 404);
    }

    #[test]
    fn nobody_is_made_to_ask() {
        let token = "/computeMetadata/v1/instance/service-accounts/default/token";
        assert_eq!(asked(token, &[]).0, 403);
        assert_eq!(asked(token, &[("metadata-flavor", "Google"), ("x-forwarded-for", "192.0.2.1")]).0, 403);
        let question = Question::of(&Method::POST, &token.parse().unwrap(), &HeaderMap::new());
        assert_eq!(answer(&question, &facts(), None).parts(String::new()).0, 405);
    }

    #[test]
    fn an_identity_without_an_address_gets_one_that_is_nobodys() {
        for principal in
            [None, Some("principal://iam.googleapis.com/projects/1/x/subject/s"), Some("acme.svc.id.goog")]
        {
            assert_eq!(email(&Facts::default(), principal), NOBODY);
        }
        assert_eq!(email(&Facts::default(), Some("a@b")), "a@b");
    }
}
