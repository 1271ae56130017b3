//! Phase 2: what a call asks BigQuery to do, from its head and the body that decides.

use std::collections::BTreeMap;

use ledger::call::{Access, Intent, JobReference, TableUse};

use super::bounded::{self, Tables};
use super::json;
use super::recognise::{Recognised, Upload};
use super::refusal::Refusal;
use super::request::{
    self, CopyConfiguration, JobConfiguration, QueryConfiguration, QueryRequest, TableReference,
};
use super::scan::{self, Named, Scan};
use super::secrets;

/// Longest id that is taken from a body, in bytes; BigQuery's own are at most 1,024. A longer one is left out: the request's
/// blob has it, and BigQuery refuses it.
const MAX_ID: usize = 1024;

/// A call that can be recorded in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// What is about to be asked.
    pub intent: Intent,
    /// The job's labels: what the agent says of itself. Bounded; the request's blob has them all.
    pub labels: BTreeMap<String, String>,
    /// The query's text, decoded.
    pub sql: Option<String>,
    /// The body without the secrets in it, when it had any: this is recorded in its place.
    pub redacted: Option<Vec<u8>>,
}

/// Says what a call asks for. `body` is what decided: the whole body under [`BodyPlan::Deciding`](super::BodyPlan), its
/// first part under `FirstPart`, decoded from any content encoding; `None` otherwise.
///
/// # Errors
/// A [`Refusal`]: the call must not leave. [`Recognised::intent`] is what there is to record of it.
pub fn intent(recognised: &Recognised, body: Option<&[u8]>) -> Result<Understood, Refusal> {
    recognised.check()?;
    let mut call = Understood { intent: recognised.intent(), ..Understood::default() };
    let Some(body) = body.filter(|body| !body.is_empty()) else {
        return with_no_body(recognised, call);
    };
    json::check(body)?;
    match recognised.method {
        "jobs.query" => jobs_query(&mut call, json::read(body)?),
        "jobs.insert" => jobs_insert(&mut call, json::read(body)?)?,
        "tables.insert" | "tables.patch" | "tables.update" => table_definition(&mut call, json::read(body)?),
        method if method.contains(".transferConfigs.") => transfer(&mut call, json::read(body)?),
        _ => (), // named by method and path; the body itself is recorded
    }
    call.redacted = recognised.may_carry_secrets().then(|| secrets::without(body)).flatten();
    call.intent.redacted = call.redacted.is_some();
    Ok(call)
}

fn with_no_body(recognised: &Recognised, call: Understood) -> Result<Understood, Refusal> {
    let begins = !matches!(recognised.upload, Some(Upload::Continue(_)));
    if begins && ["jobs.query", "jobs.insert"].contains(&recognised.method) {
        return Err(Refusal::MalformedBody(format!("{} needs a body and there is none", recognised.method)));
    }
    Ok(call)
}

fn jobs_query(call: &mut Understood, request: QueryRequest) {
    call.intent.dry_run = request.dry_run.unwrap_or_default();
    call.labels = bounded::labels(request.labels.unwrap_or_default().0);
    let query = QueryConfiguration {
        query: request.query,
        default_dataset: request.default_dataset,
        connection_properties: request.connection_properties,
        ..QueryConfiguration::default()
    };
    query_job(call, query);
}

fn jobs_insert(call: &mut Understood, job: request::Job) -> Result<(), Refusal> {
    if let Some(reference) = job.job_reference {
        call.intent.job = named_job(reference).or(call.intent.job.take());
    }
    let JobConfiguration { dry_run, labels, query, load, copy, extract } =
        job.configuration.unwrap_or_default();
    let kinds = [query.is_some(), load.is_some(), copy.is_some(), extract.is_some()];
    if kinds.into_iter().filter(|kind| *kind).count() > 1 {
        return Err(Refusal::AmbiguousBody("more than one of query, load, copy and extract".into()));
    }
    call.intent.dry_run = dry_run.unwrap_or_default();
    call.labels = bounded::labels(labels.unwrap_or_default().0);
    if let Some(query) = query {
        query_job(call, query);
    } else if let Some(load) = load {
        table_job(call, "LOAD", written(load.destination_table));
    } else if let Some(copy) = copy {
        table_job(call, "COPY", copied(copy));
    } else if let Some(extract) = extract {
        table_job(call, "EXTRACT", read(extract.source_table));
    }
    Ok(())
}

fn named_job(reference: request::JobReference) -> Option<JobReference> {
    let short = |text: Option<String>| text.filter(|text| text.len() <= MAX_ID && !text.is_empty());
    let id = short(reference.job_id)?;
    Some(JobReference { project: short(reference.project_id), id, location: short(reference.location) })
}

/// A job without SQL is recorded under BigQuery's own word for it (`configuration.jobType`).
fn table_job(call: &mut Understood, kind: &str, tables: Vec<TableUse>) {
    call.intent.statement_kind = Some(kind.to_owned());
    set_tables(call, tables, false);
}

fn copied(copy: CopyConfiguration) -> Vec<TableUse> {
    let sources = copy.source_tables.into_iter().flatten().map(Some).chain([copy.source_table]);
    sources.flat_map(read).chain(written(copy.destination_table)).collect()
}

fn read(table: Option<TableReference>) -> Vec<TableUse> {
    table_use(table, Access::Read).into_iter().collect()
}

fn written(table: Option<TableReference>) -> Vec<TableUse> {
    table_use(table, Access::Write).into_iter().collect()
}

fn table_use(table: Option<TableReference>, access: Access) -> Option<TableUse> {
    let TableReference { project_id: project, dataset_id: dataset, table_id } = table?;
    Some(TableUse { project, dataset, table: table_id?, access })
}

fn query_job(call: &mut Understood, query: QueryConfiguration) {
    let sql = query.query.unwrap_or_default();
    let found = scan::scan(&sql);
    let defaults = Defaults {
        dataset: query.default_dataset.filter(|_| !found.sets_defaults),
        project: query.connection_properties.into_iter().flatten().find_map(|property| {
            (property.key.as_deref() == Some("dataset_project_id")).then_some(property.value).flatten()
        }),
        external: query.table_definitions.into_iter().flatten().map(|(name, _)| name).collect(),
    };
    set_script(call, found, &defaults, query.destination_table);
    call.sql = Some(sql);
}

/// What unqualified names stand for in a query.
struct Defaults {
    dataset: Option<request::DatasetReference>,
    project: Option<String>,
    /// Names that the request itself defines as external tables.
    external: Vec<String>,
}

impl Defaults {
    fn apply(&self, named: Named) -> TableUse {
        let Named { project, dataset, table, access, temporary } = named;
        let unqualified = dataset.is_none() && !temporary && !self.external.contains(&table);
        let default = self.dataset.as_ref().filter(|_| unqualified);
        let dataset = dataset.or_else(|| default?.dataset_id.clone());
        let project = project
            .or_else(|| default?.project_id.clone())
            .or_else(|| self.project.clone().filter(|_| dataset.is_some()));
        TableUse { project, dataset, table, access }
    }
}

/// A view's query is in its definition: creating it by REST names the same tables as creating it by SQL.
fn table_definition(call: &mut Understood, definition: request::Table) {
    let view = definition.view.or(definition.materialized_view).and_then(|view| view.query);
    let found = scan::scan(view.as_deref().unwrap_or_default());
    let target =
        call.intent.tables.drain(..).next().or_else(|| table_use(definition.table_reference, Access::Write));
    let defaults = Defaults { dataset: None, project: None, external: Vec::new() };
    let tables =
        target.into_iter().chain(found.tables.into_iter().map(|named| defaults.apply(named))).collect();
    set_tables(call, tables, found.truncated);
    call.sql = view;
}

/// A scheduled query is a statement that Google runs later: it is recorded where it is set, for no call runs it.
fn transfer(call: &mut Understood, config: request::TransferConfig) {
    let params = config.params.unwrap_or_default();
    let Some(sql) = params.query.and_then(request::Scalar::into_text) else { return };
    let found = scan::scan(&sql);
    let target = TableReference {
        project_id: None,
        dataset_id: config.destination_dataset_id,
        table_id: params.destination_table_name_template.and_then(request::Scalar::into_text),
    };
    let defaults = Defaults { dataset: None, project: None, external: Vec::new() };
    set_script(call, found, &defaults, Some(target));
    call.sql = Some(sql);
}

/// What the scanner found, with the table that the result goes to.
fn set_script(call: &mut Understood, found: Scan, defaults: &Defaults, destination: Option<TableReference>) {
    let named: Vec<_> = found.tables.into_iter().map(|named| defaults.apply(named)).collect();
    let mut bounded = Tables::default();
    named.iter().cloned().chain(written(destination)).for_each(|table| bounded.push(table));
    call.intent.statement_kind = found.kind.map(str::to_owned);
    call.intent.statements = bounded.statements(&found.statements, &named);
    call.intent.statements_truncated = found.statements_truncated;
    call.intent.tables_truncated = found.truncated || bounded.truncated;
    call.intent.tables = bounded.into_list();
}

fn set_tables(call: &mut Understood, tables: Vec<TableUse>, truncated: bool) {
    let mut bounded = Tables::default();
    tables.into_iter().for_each(|table| bounded.push(table));
    call.intent.tables_truncated = truncated || bounded.truncated;
    call.intent.tables = bounded.into_list();
}

#[cfg(test)]
mod tests;
