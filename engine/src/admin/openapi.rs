//! The description of the admin port (`openapi.json`), and a page made of it that needs nothing from elsewhere.

use std::fmt::Write;
use std::sync::OnceLock;

use axum::Json;
use axum::response::Html;
use serde_json::{Map, Value, json};

const TEXT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn document() -> Json<&'static Value> {
    Json(description())
}

/// `GET /openapi/`: the same for people.
pub async fn page() -> Html<&'static str> {
    static PAGE: OnceLock<String> = OnceLock::new();
    Html(PAGE.get_or_init(|| rendered(description())))
}

fn description() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        // Compiled in; a test asks for it.
        let mut document: Value = serde_json::from_str(TEXT).unwrap_or_default();
        document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
        // What any route answers to a request that its own lines do not foresee: a body of another type, a path that
        // is no number, a right that is missing.
        let refused = json!({
            "description": "Refused; `message` says why, or a list of the fields that do not fit where HMA's routes say 422.",
            "content": {
                "application/json": {
                    "schema": { "anyOf": [{ "$ref": "#/components/schemas/Refusal" }, { "type": "array" }] },
                },
                "text/html": { "schema": { "type": "string" } },
            },
        });
        let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
        for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            operation["responses"]["default"] = refused.clone();
        }
        document
    })
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;\
                     background:#fff}h2{border-bottom:1px solid #ccc;margin-top:2.5rem}summary{cursor:pointer}\
                     code{font-family:ui-monospace,monospace}.method{display:inline-block;min-width:4.5rem;font-weight:600}\
                     table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #ddd;padding:.2rem .6rem;\
                     text-align:left;vertical-align:top}pre{background:#f6f6f6;padding:.6rem;overflow:auto}\
                     details{margin:.3rem 0}details>div{margin-left:1.2rem}\
                     @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#222}\
                     td,th{border-color:#444}h2{border-color:#444}}";

fn rendered(document: &Value) -> String {
    let mut page = String::new();
    let title = escaped(text(&document["info"]["title"]));
    let about = escaped(text(&document["info"]["description"]));
    // Writing to a text cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width'>\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title} {}</h1>\n<p>{about} \
         <a href='/openapi.json'>As JSON</a>.</p>\n",
        escaped(text(&document["info"]["version"]))
    );
    let none = Map::new();
    let paths = document["paths"].as_object().unwrap_or(&none);
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escaped(name), escaped(text(&tag["description"])));
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().unwrap_or(&none) {
                if operation["tags"][0] == *name {
                    render_operation(&mut page, path, method, operation);
                }
            }
        }
    }
    page.push_str("<h2>Shapes</h2>\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap_or(&none) {
        let _ = writeln!(
            page,
            "<details id='{0}'><summary><code>{0}</code></summary><pre>{1}</pre></details>",
            escaped(name),
            pretty(schema)
        );
    }
    page
}

fn render_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<details><summary><span class=method>{}</span> <code>{}</code> {}</summary><div>",
        method.to_uppercase(),
        escaped(path),
        escaped(text(&operation["summary"]))
    );
    if let Some(more) = operation["description"].as_str() {
        let _ = write!(page, "<p>{}</p>", escaped(more));
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("<table><tr><th>Parameter<th>In<th>Needed<th>What it is");
        for parameter in parameters {
            let needed = if parameter["required"] == true { "yes" } else { "" };
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{}<td>{needed}<td>{}",
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
                escaped(text(&parameter["description"]))
            );
        }
        page.push_str("</table>");
    }
    let none = Map::new();
    for (kind, body) in operation["requestBody"]["content"].as_object().unwrap_or(&none) {
        let _ = write!(page, "<p>Body, {}:</p><pre>{}</pre>", escaped(kind), pretty(&body["schema"]));
    }
    let responses = operation["responses"].as_object().unwrap_or(&none);
    for (status, response) in responses.iter().filter(|(status, _)| *status != "default") {
        let _ = write!(page, "<p>{}: {}</p>", escaped(status), escaped(text(&response["description"])));
        for (kind, body) in response["content"].as_object().unwrap_or(&none) {
            if status.starts_with('2') {
                let _ = write!(page, "<p>{}</p><pre>{}</pre>", escaped(kind), pretty(&body["schema"]));
            }
        }
    }
    page.push_str("</div></details>\n");
}

fn pretty(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text as it may stand in a page.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            other => escaped.push(other),
        }
    }
    escaped
}
