//! The JSON schema of `handover.toml`, made from the types that read it.

use schemars::generate::SchemaSettings;

use super::raw;

/// What has no default, by the type of its table. The types themselves allow every key to be absent, so that all
/// that is missing is said at once.
const REQUIRED: [(&str, &[&str]); 7] = [
    ("Listener", &["bind"]),
    ("Certificate", &["certificate", "key"]),
    ("Route", &["listener"]),
    ("Split", &["service"]),
    ("EndpointTable", &["address"]),
    ("Hook", &["command"]),
    ("DependencyTable", &["service"]),
];

/// Of which exactly one is required.
const EITHER: [(&str, &[&[&str]]); 2] =
    [("Route", &[&["service"], &["split"]]), ("Service", &[&["release", "command"], &["endpoints"]])];

/// The schema as text, as it is committed.
pub(crate) fn text() -> String {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<raw::Manifest>();
    schema.insert("title".to_owned(), "handover.toml".into());
    for (table, keys) in REQUIRED {
        let table =
            schema.pointer_mut(&format!("/definitions/{table}")).and_then(|table| table.as_object_mut());
        table.expect("invariant: raw has these tables").insert("required".to_owned(), keys.into());
    }
    for (table, ways) in EITHER {
        let table =
            schema.pointer_mut(&format!("/definitions/{table}")).and_then(|table| table.as_object_mut());
        let ways: Vec<_> = ways.iter().map(|keys| serde_json::json!({ "required": keys })).collect();
        table.expect("invariant: raw has these tables").insert("oneOf".to_owned(), ways.into());
    }
    let mut text = serde_json::to_string_pretty(&schema).expect("invariant: a schema is JSON");
    text.push('\n');
    text
}
