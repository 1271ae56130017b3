//! Phase 1: what a call is, from its head alone, before a byte of its body is read.

use http::{HeaderMap, HeaderName, Method, Uri, header};
use ledger::call::{
    Access, HttpTarget, Intent, JobReference, MAX_PATH, OTHER_METHOD, TableUse, UNKNOWN_METHOD,
};

use super::hosts::{HostClass, classify_host};
use super::lookalike::{begins_as_bigquery, is_bigquery_path};
use super::methods::{self, Resource};
use super::path::{cut, identifier, parameters, recorded};
use super::refusal::Refusal;
use super::{grpc, upload};

/// Largest body that is read whole before the call leaves, in bytes (12 MiB), after decoding. BigQuery takes query requests
/// of 10 MB. A larger one is refused by the caller (`body_too_large`).
pub const MAX_DECIDING_BODY: usize = 12 << 20;

/// What is to be done with the request's body before the call may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyPlan {
    /// It decides what is asked: read it whole (at most [`MAX_DECIDING_BODY`]), record it, then forward it.
    Deciding,
    /// Its first part decides (`multipart/related`): read until [`upload::first_part`] has it (at most
    /// [`MAX_DECIDING_BODY`]), record that part, then forward all of it as it comes.
    FirstPart,
    /// Data: streamed, and bound by its digest in the outcome.
    Bulk,
    /// None was announced. Refuse the call when bytes come all the same.
    Empty,
}

/// What an upload request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    /// Job and data in one body; the boundary between its parts.
    Multipart(String),
    /// The job alone; the answer's `Location` has the id of the upload that it begins.
    Begin,
    /// Data, or a question about its state; the upload's id.
    Continue(upload::UploadId),
}

/// A call as its head shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Discovery name without `bigquery.` (`jobs.query`), with a sister service's name (`bigqueryconnection...`), `Service.Method` for gRPC, or [`UNKNOWN_METHOD`].
    pub method: &'static str,
    /// Verb, host, and the path as it is recorded.
    pub http: HttpTarget,
    /// Project in the path.
    pub project: Option<String>,
    /// Data set in the path.
    pub dataset: Option<String>,
    /// Table in the path, or in gRPC's routing header.
    pub table: Option<String>,
    /// Job in the path, with the location of the query.
    pub job: Option<JobReference>,
    /// `location` of the query.
    pub location: Option<String>,
    /// Set on the upload paths.
    pub upload: Option<Upload>,
    /// What to do with the body.
    pub body: BodyPlan,
    access: Access,
    refusal: Option<Refusal>,
}

impl Recognised {
    /// Why the head alone rules the call out. It needs no reading of the body.
    ///
    /// # Errors
    /// [`Refusal::UnknownMethod`], [`Refusal::AmbiguousRequest`]
    pub fn check(&self) -> Result<(), Refusal> {
        self.refusal.clone().map_or(Ok(()), Err)
    }

    /// Bodies of this method may hold passwords, which can be cut out only of what can be read.
    #[must_use]
    pub fn may_carry_secrets(&self) -> bool {
        methods::is_sisters(self.method)
    }

    /// The intent as the head shows it: what is recorded of a call that is refused before its body was understood.
    #[must_use]
    pub fn intent(&self) -> Intent {
        Intent {
            method: self.method.to_owned(),
            http: self.http.clone(),
            project: self.project.clone(),
            job: self.job.clone(),
            tables: self.table_use().into_iter().collect(),
            ..Intent::default()
        }
    }

    fn table_use(&self) -> Option<TableUse> {
        let table = self.table.clone()?;
        Some(TableUse {
            project: self.project.clone(),
            dataset: self.dataset.clone(),
            table,
            access: self.access,
        })
    }
}

/// Names a call on a BigQuery host. It always gives something to record; [`Recognised::check`] says whether the call can
/// go on.
#[must_use]
pub fn recognise(verb: &Method, host: &str, uri: &Uri, headers: &HeaderMap) -> Recognised {
    let host = cut(host.to_ascii_lowercase(), MAX_HOST);
    let target = HttpTarget { verb: verb.to_string(), host, path: recorded(uri.path(), uri.query()) };
    named(verb, &target.host, uri, headers)
        .map(|recognised| Recognised { http: target.clone(), ..recognised })
        .unwrap_or_else(|refusal| unknown(target, refusal))
}

/// A call of another Google API. It is not looked into, beyond its head: one line in the record, and on. A path of
/// BigQuery's is no call of that API, whose server would at best refuse it: it is unknown.
#[must_use]
pub fn other(verb: &Method, host: &str, uri: &Uri) -> Recognised {
    let host = cut(host.to_ascii_lowercase(), MAX_HOST);
    let http = HttpTarget { verb: verb.to_string(), host, path: recorded(uri.path(), uri.query()) };
    if begins_as_bigquery(uri.path()) {
        return unknown(http, unknown_method(verb, uri.path(), "a path of BigQuery's on another API's host"));
    }
    Recognised { http, ..blank(OTHER_METHOD, Access::Read, BodyPlan::Bulk) }
}

/// Longest host name there is (RFC 1035), with a port.
const MAX_HOST: usize = 253 + 6;

fn unknown(http: HttpTarget, refusal: Refusal) -> Recognised {
    Recognised { http, refusal: Some(refusal), ..blank(UNKNOWN_METHOD, Access::Write, BodyPlan::Bulk) }
}

fn unknown_method(verb: &Method, path: &str, hint: &'static str) -> Refusal {
    Refusal::UnknownMethod { verb: verb.to_string(), path: cut(path.to_owned(), MAX_PATH), hint }
}

fn blank(method: &'static str, access: Access, body: BodyPlan) -> Recognised {
    Recognised {
        method,
        http: HttpTarget::default(),
        project: None,
        dataset: None,
        table: None,
        job: None,
        location: None,
        upload: None,
        body,
        access,
        refusal: None,
    }
}

fn named(verb: &Method, host: &str, uri: &Uri, headers: &HeaderMap) -> Result<Recognised, Refusal> {
    let path = uri.path();
    let unknown = |hint| unknown_method(verb, path, hint);
    one_meaning(headers)?;
    if grpc::is_grpc(headers) {
        let (name, access) =
            grpc::find(path).ok_or_else(|| unknown("a gRPC method that is not decoded here"))?;
        let recognised = blank(name, access, BodyPlan::Bulk);
        return Ok(with_resource(recognised, grpc::resource(headers), None));
    }
    let query = Query::read(uri.query().unwrap_or_default())?;
    if is_discovery(verb, path) {
        return Ok(blank("discovery.getRest", Access::Read, empty_plan(headers)));
    }
    if classify_host(host) == HostClass::SharedGoogle && !is_bigquery_path(path) {
        return Err(unknown("not a path of BigQuery's"));
    }
    let found = methods::find(host, verb.as_str(), path).ok_or_else(|| unknown(look_alike(path)))?;
    let upload = if found.upload {
        Some(upload_request(verb, &query, headers).ok_or_else(|| unknown(UPLOAD_HINT))?)
    } else {
        None
    };
    let body = body_plan(verb, found.name, upload.as_ref(), headers);
    let recognised = Recognised { upload, ..blank(found.name, access(verb, found.name), body) };
    Ok(with_resource(recognised, found.resource, query.location))
}

const UPLOAD_HINT: &str =
    "an upload that is neither uploadType=multipart with a boundary, nor resumable with its job in JSON";

fn with_resource(recognised: Recognised, resource: Resource, location: Option<String>) -> Recognised {
    let Resource { project, dataset, table, job } = resource;
    let job = job.map(|id| JobReference { project: project.clone(), id, location: location.clone() });
    Recognised { project, dataset, table, job, location, ..recognised }
}

/// Headers with which a server may take the call for another one than its path and verb say.
const DISGUISES: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-goog-upload-protocol",
    "x-goog-upload-command",
];

fn one_meaning(headers: &HeaderMap) -> Result<(), Refusal> {
    if DISGUISES.iter().any(|name| headers.contains_key(*name)) {
        return Err(Refusal::AmbiguousRequest("a header that overrides the method or the upload protocol"));
    }
    if headers.get_all(header::CONTENT_TYPE).iter().count() > 1 {
        return Err(Refusal::AmbiguousRequest("two Content-Type headers"));
    }
    let charset = content_type(headers).and_then(|value| upload::parameter(value, "charset"));
    match charset {
        Some(charset) if !["utf-8", "utf8", "us-ascii"].contains(&charset.to_ascii_lowercase().as_str()) => {
            Err(Refusal::AmbiguousRequest("a charset other than UTF-8"))
        }
        _ => Ok(()),
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// The parameters of the query that matter here.
#[derive(Default)]
struct Query {
    location: Option<String>,
    upload_type: Option<String>,
    upload_id: Option<String>,
}

/// Google's system parameters that begin with `$` and change only how the answer is written. Others (`$httpMethod`,
/// `$httpHeaders`, `$req`) can turn a call into another one.
const HARMLESS: [&str; 9] = [
    "$.xgafv",
    "$xgafv",
    "$alt",
    "$fields",
    "$prettyprint",
    "$key",
    "$quotauser",
    "$callback",
    "$apiversion",
];

impl Query {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for (name, value) in parameters(query) {
            let lower = name.to_ascii_lowercase();
            let slot = match lower.as_str() {
                "location" => &mut found.location,
                "uploadtype" => &mut found.upload_type,
                "upload_id" => &mut found.upload_id,
                "upload_protocol" | "x-http-method-override" | "httpmethod" | "_method" => {
                    return Err(Refusal::AmbiguousRequest(
                        "a parameter that overrides the method or the upload protocol",
                    ));
                }
                other if other.starts_with('$') && !HARMLESS.contains(&other) => {
                    return Err(Refusal::AmbiguousRequest("a system parameter that can change the call"));
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Refusal::AmbiguousRequest("location, uploadType or upload_id given twice"));
            }
        }
        found.location =
            found.location.filter(|location| identifier(location).is_some_and(|text| text.len() <= 64));
        Ok(found)
    }
}

fn is_discovery(verb: &Method, path: &str) -> bool {
    let by_name = |name: &str| {
        name.split('/').filter(|part| !part.is_empty()).count() == 2 && name.split('/').count() == 2
    };
    let apis = path.strip_prefix("/discovery/v1/apis/").and_then(|rest| rest.strip_suffix("/rest"));
    *verb == Method::GET && (path == "/$discovery/rest" || apis.is_some_and(by_name))
}

fn look_alike(path: &str) -> &'static str {
    let path = super::path::decode_lossy(path).to_ascii_lowercase();
    if path.contains("batch") {
        "batch requests were retired by BigQuery"
    } else if path.starts_with("/mcp") {
        "the MCP endpoint is not decoded here"
    } else {
        "no such method in its table"
    }
}

fn upload_request(verb: &Method, query: &Query, headers: &HeaderMap) -> Option<Upload> {
    match (verb, query.upload_type.as_deref()?, query.upload_id.as_deref()) {
        (&Method::POST, "multipart", None) => upload::parameter(content_type(headers)?, "boundary")
            .filter(|boundary| !boundary.is_empty())
            .map(Upload::Multipart),
        (&Method::POST, "resumable", None) => Some(Upload::Begin),
        (&Method::PUT, "resumable", Some(id)) => upload::UploadId::new(id).map(Upload::Continue),
        _ => None,
    }
}

fn body_plan(verb: &Method, method: &str, upload: Option<&Upload>, headers: &HeaderMap) -> BodyPlan {
    match upload {
        Some(Upload::Multipart(_)) => BodyPlan::FirstPart,
        Some(Upload::Continue(_)) => BodyPlan::Bulk,
        Some(Upload::Begin) => BodyPlan::Deciding,
        None if method == "tabledata.insertAll" => BodyPlan::Bulk,
        None if matches!(*verb, Method::GET | Method::DELETE) => empty_plan(headers),
        None => BodyPlan::Deciding,
    }
}

/// A body that a GET announces is recorded like any other, in case a server reads it.
fn empty_plan(headers: &HeaderMap) -> BodyPlan {
    const CHUNKED: HeaderName = header::TRANSFER_ENCODING;
    let none = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    if none && !headers.contains_key(CHUNKED) { BodyPlan::Empty } else { BodyPlan::Deciding }
}

/// What the method does with the table in its path.
fn access(verb: &Method, method: &str) -> Access {
    let reads =
        *verb == Method::GET || method.ends_with(".getIamPolicy") || method.ends_with(".testIamPermissions");
    if reads { Access::Read } else { Access::Write }
}

#[cfg(test)]
mod tests;
