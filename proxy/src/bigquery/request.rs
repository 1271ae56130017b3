//! The parts of BigQuery's request bodies that decide what is asked. Members are named as in the discovery document; the
//! API also takes them in snake case, so both are read, and refused together.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// `QueryRequest` of `jobs.query`
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QueryRequest {
    pub(super) query: Option<String>,
    #[serde(alias = "default_dataset")]
    pub(super) default_dataset: Option<DatasetReference>,
    #[serde(alias = "dry_run", deserialize_with = "flag")]
    pub(super) dry_run: Option<bool>,
    #[serde(alias = "connection_properties")]
    pub(super) connection_properties: Option<Vec<ConnectionProperty>>,
    pub(super) labels: Option<Labels>,
    pub(super) location: Option<String>,
}

/// `Job` of `jobs.insert`
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Job {
    #[serde(alias = "job_reference")]
    pub(super) job_reference: Option<JobReference>,
    pub(super) configuration: Option<JobConfiguration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct JobConfiguration {
    #[serde(alias = "dry_run", deserialize_with = "flag")]
    pub(super) dry_run: Option<bool>,
    pub(super) labels: Option<Labels>,
    pub(super) query: Option<QueryConfiguration>,
    pub(super) load: Option<LoadConfiguration>,
    pub(super) copy: Option<CopyConfiguration>,
    pub(super) extract: Option<ExtractConfiguration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QueryConfiguration {
    pub(super) query: Option<String>,
    #[serde(alias = "default_dataset")]
    pub(super) default_dataset: Option<DatasetReference>,
    #[serde(alias = "destination_table")]
    pub(super) destination_table: Option<TableReference>,
    #[serde(alias = "table_definitions")]
    pub(super) table_definitions: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(alias = "connection_properties")]
    pub(super) connection_properties: Option<Vec<ConnectionProperty>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LoadConfiguration {
    #[serde(alias = "destination_table")]
    pub(super) destination_table: Option<TableReference>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CopyConfiguration {
    #[serde(alias = "source_table")]
    pub(super) source_table: Option<TableReference>,
    #[serde(alias = "source_tables")]
    pub(super) source_tables: Option<Vec<TableReference>>,
    #[serde(alias = "destination_table")]
    pub(super) destination_table: Option<TableReference>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExtractConfiguration {
    #[serde(alias = "source_table")]
    pub(super) source_table: Option<TableReference>,
}

/// `Table` of `tables.insert`, `tables.patch` and `tables.update`
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Table {
    #[serde(alias = "table_reference")]
    pub(super) table_reference: Option<TableReference>,
    pub(super) view: Option<ViewDefinition>,
    #[serde(alias = "materialized_view")]
    pub(super) materialized_view: Option<ViewDefinition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ViewDefinition {
    pub(super) query: Option<String>,
}

/// `TransferConfig` of `bigquerydatatransfer...transferConfigs.create` and `.patch`: what Google runs later, by itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TransferConfig {
    #[serde(alias = "destination_dataset_id")]
    pub(super) destination_dataset_id: Option<String>,
    pub(super) params: Option<TransferParams>,
}

/// Of a scheduled query. Other data sources have parameters of their own, which are in the request's blob.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TransferParams {
    pub(super) query: Option<Scalar>,
    pub(super) destination_table_name_template: Option<Scalar>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DatasetReference {
    #[serde(alias = "project_id")]
    pub(super) project_id: Option<String>,
    #[serde(alias = "dataset_id")]
    pub(super) dataset_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TableReference {
    #[serde(alias = "project_id")]
    pub(super) project_id: Option<String>,
    #[serde(alias = "dataset_id")]
    pub(super) dataset_id: Option<String>,
    #[serde(alias = "table_id")]
    pub(super) table_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct JobReference {
    #[serde(alias = "project_id")]
    pub(super) project_id: Option<String>,
    #[serde(alias = "job_id")]
    pub(super) job_id: Option<String>,
    pub(super) location: Option<String>,
}

/// `{"key":"dataset_project_id","value":"p"}`
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionProperty {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

/// Labels as the agent wrote them. Only texts are labels; BigQuery refuses the rest.
#[derive(Default)]
pub(super) struct Labels(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        let texts = labels.into_iter().filter_map(|(key, label)| match label {
            Scalar::Text(text) => Some((key, text)),
            Scalar::Flag(_) | Scalar::Other => None,
        });
        Ok(Self(texts.collect()))
    }
}

/// A boolean; the API takes `"true"` for `true`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    match Option::<Scalar>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Scalar::Flag(value)) => Ok(Some(value)),
        Some(Scalar::Text(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Scalar::Text(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(Scalar::Text(_) | Scalar::Other) => Err(D::Error::custom("a boolean is true or false")),
    }
}

/// Any JSON value, of which only texts and booleans are kept.
pub(super) enum Scalar {
    Text(String),
    Flag(bool),
    Other,
}

impl Scalar {
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
