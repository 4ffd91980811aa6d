//! The JSON Schema of configs: what every key is, for editors, checks and the reference.

use super::Config;
use super::layers::{self, PRESET_KEYS};
use serde_json::{Map, Value};

/// The schema of a whole config, in which every key has a value.
pub(crate) fn raw() -> Value {
    serde_json::to_value(schemars::schema_for!(Config)).expect("schemas are JSON")
}

/// The schema of config files: no key is needed, and each says its default. The `default` of a key
/// whose default depends on the preset is that of `recommended`, and its description says so.
pub(crate) fn of_files() -> Value {
    let mut schema = raw();
    let defaults = layers::load(None, &[]).expect("the embedded defaults resolve").config;
    let defaults = serde_json::to_value(defaults).expect("configs are JSON");
    let Value::Object(defaults) = defaults else { unreachable!("a config is a table") };
    object(&mut schema, "").remove("required");
    for (name, value) in defaults {
        let Value::Object(values) = value else {
            object(&mut schema, &format!("/properties/{name}")).insert("default".into(), value);
            continue;
        };
        let place = schema["properties"][&name]["$ref"].as_str().expect("tables have a type");
        let place = place.trim_start_matches('#').to_owned();
        object(&mut schema, &place).remove("required");
        for (key, value) in values {
            let property = object(&mut schema, &format!("{place}/properties/{key}"));
            property.insert("default".into(), value);
            if PRESET_KEYS
                .iter()
                .any(|(section, of_preset, _)| (*section, *of_preset) == (&name, &key))
                && let Some(Value::String(text)) = property.get_mut("description")
            {
                text.push_str(" The preset gives the default.");
            }
        }
    }
    schema
}

fn object<'a>(schema: &'a mut Value, pointer: &str) -> &'a mut Map<String, Value> {
    let place = schema.pointer_mut(pointer).and_then(Value::as_object_mut);
    place.unwrap_or_else(|| panic!("the schema has nothing at {pointer}"))
}
