//! Chat templates: what a model that was taught to chat expects around a user's message.
//!
//! The template comes with the model, in the Jinja dialect of Hugging Face. It is rendered once,
//! around a stand-in for the message, so that the message itself is never read as a template nor as
//! special tokens: text of a query cannot end its own turn.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use serde_json::Value;

/// Stands for the message; a character that is assigned to nothing and never trimmed.
const MESSAGE: &str = "\u{F8FF}message\u{F8FF}";

/// Instructions that a template may take: it comes from a model folder, which may come from anywhere.
const MOST_STEPS: u64 = 1_000_000;

/// The text before and after a user's message, up to where the model begins to answer.
///
/// `config` is `tokenizer_config.json`, `file` is `chat_template.jinja`, which comes first. None if
/// neither holds a template; an error, in words, if it cannot be rendered.
pub(crate) fn around(
    config: &Value,
    file: Option<&str>,
) -> Option<Result<(String, String), String>> {
    let template = match file {
        Some(text) => text.to_owned(),
        None => named(&config["chat_template"])?,
    };
    Some(render(&template, config).map_err(|error| error.to_string()).and_then(|text| {
        let (before, after) = text
            .split_once(MESSAGE)
            .filter(|(_, after)| !after.contains(MESSAGE))
            .ok_or_else(|| "it does not contain the user's message once".to_owned())?;
        Ok((before.to_owned(), after.to_owned()))
    }))
}

/// A template, or the one called `default` of a list.
fn named(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn render(template: &str, config: &Value) -> Result<String, Error> {
    let token = |name: &str| {
        let token = &config[name];
        token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
    };
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    // The date is no part of a query: two runs of one seed must ask the same.
    environment.add_function("strftime_now", |_: String| String::new());
    environment.render_str(
        template,
        context! {
            messages => vec![context! { role => "user", content => MESSAGE }],
            add_generation_prompt => true,
            bos_token => token("bos_token"),
            eos_token => token("eos_token"),
            tools => (),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A template in the style of those that models ship, written for this test.
    const TURNS: &str = "{%- if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}\
        {%- endif %}\n{{- bos_token }}\n{%- for message in messages %}\n    \
        {{- '<|' + message.role + '|>\\n' + message['content'].strip() + '<|end|>\\n' }}\n\
        {%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|assistant|>\\n' }}\n{%- endif %}";

    #[test]
    fn a_message_is_put_between_turns() {
        let config = json!({"bos_token": {"content": "<s>"}, "chat_template": TURNS});
        let (before, after) = around(&config, None).unwrap().unwrap();
        assert_eq!(
            (before.as_str(), after.as_str()),
            ("<s><|user|>\n", "<|end|>\n<|assistant|>\n")
        );
        let list = json!({"chat_template": [{"name": "tool"}, {"name": "default", "template": "{{ messages[0].content }}!"}]});
        assert_eq!(around(&list, None).unwrap(), Ok((String::new(), "!".to_owned())));
        let file = around(&config, Some("{{ messages[0].content }}?")).unwrap();
        assert_eq!(file, Ok((String::new(), "?".to_owned())));
    }

    #[test]
    fn a_template_that_cannot_be_used_is_an_error() {
        assert_eq!(around(&json!({}), None), None);
        let endless =
            "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
        let raising = "{{ raise_exception('broken on purpose') }}";
        let twice = "{{ messages[0].content }}{{ messages[0].content }}";
        for template in ["{{ messages[0", raising, "nothing", endless, twice] {
            assert!(around(&json!({"chat_template": template}), None).unwrap().is_err());
        }
    }
}
