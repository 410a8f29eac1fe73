//! What a real API server said to the objects of tests/kubernetes/objects.yaml, and what ours says: verdict, code, reason and
//! the fields of the causes. Texts are not compared.

use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::cluster;

const ANSWERS: &str = include_str!("../../../../tests/kubernetes/answers.jsonl");

/// A line of the recording.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    /// An object that is made before all cases.
    Setup {
        setup: Made,
    },
    Case(Box<Case>),
}

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    request: Judged,
    differs: Option<Differs>,
    answer: Answer,
}

#[derive(Deserialize)]
struct Made {
    at: String,
    object: Value,
}

/// The request that is judged.
#[derive(Deserialize)]
struct Judged {
    method: String,
    path: String,
    #[serde(rename = "type")]
    media: String,
    body: Option<Value>,
    text: Option<String>,
    /// What is made, and taken away again.
    first: Option<First>,
    /// What is changed about it before it is put.
    change: Option<json_patch::Patch>,
}

#[derive(Deserialize)]
struct First {
    path: String,
    body: Value,
    at: String,
}

/// Another answer of ours, on purpose.
#[derive(Deserialize)]
struct Differs {
    code: u16,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    fields: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
struct Answer {
    code: u16,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    message: String,
}

async fn ask(
    client: &Client,
    (method, path, media): (&str, &str, &str),
    body: Vec<u8>,
) -> (u16, Value) {
    let request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
        .header("content-type", media)
        .body(Body::from(body))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn ask_json(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let media = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    ask(client, (method, path, media), body.to_string().into_bytes()).await
}

/// What ours says to a case.
async fn judge(client: &Client, request: &Judged) -> Answer {
    let mut body = match (&request.text, &request.body) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(body)) => body.to_string().into_bytes(),
        (None, None) => Vec::new(),
    };
    if let Some(first) = &request.first {
        let (code, made) = ask_json(client, "POST", &first.path, &first.body).await;
        assert_eq!(code, 201, "{made}");
        if let Some(change) = &request.change {
            let (code, mut current) = ask_json(client, "GET", &first.at, &Value::Null).await;
            assert_eq!(code, 200, "{current}");
            if let Err(error) = json_patch::patch(&mut current, change) {
                let message = format!("{error}: {current}");
                return Answer {
                    message,
                    ..Answer::default()
                };
            }
            body = current.to_string().into_bytes();
        }
    }
    let how = (&*request.method, &*request.path, &*request.media);
    let (code, answer) = ask(client, how, body).await;
    if let Some(first) = &request.first {
        let at_once = format!("{}?gracePeriodSeconds=0", first.at);
        ask_json(client, "DELETE", &at_once, &json!({})).await;
        let none = json!({"metadata": {"finalizers": null}});
        ask_json(client, "PATCH", &first.at, &none).await;
        let (code, left) = ask_json(client, "GET", &first.at, &Value::Null).await;
        assert_eq!(code, 404, "{left}");
    }
    if code < 300 {
        return Answer {
            code,
            ..Answer::default()
        };
    }
    let text = |pointer: &str| answer.pointer(pointer)?.as_str().map(str::to_owned);
    let causes = answer.pointer("/details/causes").and_then(Value::as_array);
    let field = |cause: &Value| cause["field"].as_str().unwrap_or_default().to_owned();
    let mut fields: Vec<String> = causes.into_iter().flatten().map(field).collect();
    // A field may break several rules.
    fields.sort();
    fields.dedup();
    Answer {
        code,
        reason: text("/reason").unwrap_or_default(),
        fields,
        message: text("/message").unwrap_or_default(),
    }
}

#[tokio::test]
async fn objects_are_judged_as_a_real_api_server_judges_them() {
    let client = cluster().await;
    let (mut count, mut wrong) = (0, Vec::new());
    for line in ANSWERS.lines() {
        match serde_json::from_str(line).unwrap() {
            Line::Setup { setup } => {
                let (code, answer) = ask_json(&client, "POST", &setup.at, &setup.object).await;
                assert_eq!(code, 201, "{answer}");
            }
            Line::Case(line) => {
                let Case {
                    name,
                    request,
                    differs,
                    answer,
                } = *line;
                count += 1;
                let expected = match differs {
                    Some(differs) => (differs.code, differs.reason, differs.fields),
                    None => (answer.code, answer.reason, answer.fields),
                };
                let ours = judge(&client, &request).await;
                let theirs = answer.message;
                let found = (ours.code, ours.reason, ours.fields);
                if found != expected {
                    wrong.push(format!(
                        "{name}: {found:?} ({}) instead of {expected:?} ({theirs})",
                        ours.message
                    ));
                }
            }
        }
    }
    assert!(count > 600, "{count} cases were recorded");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
