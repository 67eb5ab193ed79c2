//! Dapr's `Configuration`: the fields that have an effect here; warnings name the others.

use super::Owner;
use crate::model::{Configuration, Resources};
use crate::reader::{Field, Fields};

/// Fields of `spec` that Dapr has and that have no effect here.
const NOT_ACTED_ON: [&str; 11] = [
    "accessControl",
    "api",
    "appHttpPipeline",
    "features",
    "httpPipeline",
    "mtls",
    "nameResolution",
    "secrets",
    "tracing",
    "wasm",
    "workflow",
];

/// Reads a configuration and merges it with earlier ones: the later one wins, and denials add up.
pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    let Some(read) = configuration(document) else { return };
    let merged = &mut resources.configuration;
    merged.metrics_enabled = read.metrics_enabled.or(merged.metrics_enabled);
    merged.api_logging = read.api_logging.or(merged.api_logging);
    merged.denied_components.extend(read.denied_components);
}

fn configuration(document: &Fields<'_>) -> Option<Configuration> {
    let metadata = document.read("metadata", |metadata| {
        metadata.fields().map(|metadata| Owner::Dapr.close_metadata(&metadata))
    });
    let spec = document.read("spec", |spec| spec.fields());
    Owner::Dapr.close_document(document);
    metadata?;
    let Some(spec) = spec? else { return Some(Configuration::default()) };
    // Dapr reads both names; `metrics` is the newer one.
    let metric = spec.read_or("metric", None, |metric| metrics(&metric));
    let metrics = spec.read_or("metrics", None, |field| metrics(&field));
    let api_logging = spec.read_or("logging", None, |logging| api_logging(&logging));
    let denied = spec.read_or("components", Vec::new(), |components| denied(&components));
    spec.warn_of_others(&NOT_ACTED_ON);
    let metric = metric?;
    Some(Configuration {
        metrics_enabled: metrics?.or(metric),
        api_logging: api_logging?,
        denied_components: denied?,
    })
}

fn metrics(field: &Field<'_>) -> Option<Option<bool>> {
    let fields = field.fields()?;
    let enabled = fields.read("enabled", |enabled| enabled.flag());
    fields.warn_of_others(&["http", "latencyDistributionBuckets", "recordErrorCodes", "rules"]);
    enabled
}

fn api_logging(field: &Field<'_>) -> Option<Option<bool>> {
    let fields = field.fields()?;
    let enabled = fields.read_or("apiLogging", None, |logging| {
        let logging = logging.fields()?;
        let enabled = logging.read("enabled", |enabled| enabled.flag());
        logging.warn_of_others(&["obfuscateURLs", "omitHealthChecks"]);
        enabled
    });
    fields.warn_of_others(&[]);
    enabled
}

fn denied(field: &Field<'_>) -> Option<Vec<String>> {
    let fields = field.fields()?;
    let denied = fields.read_or("deny", Vec::new(), |deny| deny.texts());
    fields.warn_of_others(&[]);
    denied
}

#[cfg(test)]
mod tests;
