//! What a request costs grows as the request does. Compared are one of some size and one of four times that: work that is
//! linear takes four times as long then, a square sixteen times.

use std::time::Duration;

use kube::Client;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use crate::cluster::cluster;

/// Between the growth of what is linear and that of a square.
const BOUND: f64 = 9.0;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

/// A request: method, path, media type of the body, body.
type Call = (&'static str, String, &'static str, Value);

/// Requests of which the last is measured, for some size.
struct Case {
    name: &'static str,
    size: usize,
    calls: fn(usize) -> Vec<Call>,
    status: u16,
}

async fn send(client: &Client, (method, path, form, body): &Call) -> (u16, String) {
    let request = http::Request::builder()
        .method(*method)
        .uri(path)
        .header("content-type", *form)
        .body(body.to_string().into_bytes())
        .unwrap();
    match client.request_text(request).await {
        Ok(text) => (200, text),
        Err(kube::Error::Api(status)) => (status.code, status.message),
        Err(error) => panic!("{error}"),
    }
}

/// A map of `size` members, and a patch that removes them all.
fn nulls(size: usize, form: &'static str) -> Vec<Call> {
    let mut full = map(json!({}));
    full["data"] = members(size, &json!(""));
    let patch = json!({"data": members(size, &Value::Null)});
    vec![
        ("POST", MAPS.into(), JSON, full),
        ("PATCH", format!("{MAPS}/m"), form, patch),
    ]
}

/// Time of a processor, of which other processes take nothing; all tasks of a test are on its thread.
pub(super) fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

impl Case {
    /// The least that the last request took of several.
    async fn cost(&self, size: usize) -> Duration {
        let mut least = Duration::MAX;
        for _ in 0..3 {
            let client = cluster().await;
            let calls = (self.calls)(size);
            let (last, before) = calls.split_last().unwrap();
            for call in before {
                let (status, text) = send(&client, call).await;
                assert_eq!(status, 200, "{}: {text}", self.name);
            }
            let began = worked();
            let (status, text) = send(&client, last).await;
            least = least.min(worked().saturating_sub(began));
            assert_eq!(status, self.status, "{}: {text:.300}", self.name);
            assert!(
                text.len() < 200_000 || status == 200,
                "{}: {}",
                self.name,
                text.len()
            );
        }
        least
    }
}

fn define(spec: &Value) -> Call {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    ("POST", path.to_owned(), JSON, definition)
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

fn map(metadata: Value) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    map["metadata"]["name"] = json!("m");
    map
}

fn members(count: usize, value: &Value) -> Value {
    let members = (0..count).map(|index| (format!("k{index}"), value.clone()));
    Value::Object(members.collect())
}

/// A service account of two lists that are merged: one of maps by their names, one of texts.
fn account(count: usize, from: usize) -> Value {
    let names = from..from + count;
    let secrets = names
        .clone()
        .map(|index| json!({"name": format!("s{index}")}));
    let finalizers = names.map(|index| json!(format!("a.example/{index}")));
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": secrets.collect::<Value>(),
        "metadata": {"name": "m", "finalizers": finalizers.collect::<Value>()},
    })
}

/// One member with a long name.
fn long(size: usize, value: Value) -> Value {
    Value::Object(Map::from_iter([("n".repeat(size * 20), value)]))
}

const CASES: &[Case] = &[
    Case {
        name: "values that an enumeration does not have",
        size: 500,
        calls: |size| {
            let allowed: Value = (0..size).map(|index| json!(format!("v{index}"))).collect();
            let items = json!({"type": "string", "enum": allowed});
            let spec = json!({"type": "array", "items": items});
            let wrong = thing(vec!["w"; size].into());
            vec![define(&spec), ("POST", THINGS.into(), JSON, wrong)]
        },
        status: 422,
    },
    Case {
        name: "wrong items below a long name",
        size: 500,
        calls: |size| {
            let list = json!({"type": "array", "items": {"type": "string"}});
            let spec = json!({"type": "object", "properties": long(size, list)});
            let wrong = thing(long(size, vec![1; size].into()));
            vec![define(&spec), ("POST", THINGS.into(), JSON, wrong)]
        },
        status: 422,
    },
    Case {
        name: "unknown fields below a long name",
        size: 500,
        calls: |size| {
            let spec =
                json!({"type": "object", "properties": long(size, json!({"type": "object"}))});
            let wrong = thing(long(size, members(size, &json!(1))));
            let path = format!("{THINGS}?fieldValidation=Strict");
            vec![define(&spec), ("POST", path, JSON, wrong)]
        },
        status: 400,
    },
    Case {
        name: "wrong nodes of a schema below a long name",
        size: 500,
        calls: |size| {
            let inner = json!({"type": "object", "properties": members(size, &json!({}))});
            vec![define(
                &json!({"type": "object", "properties": long(size, inner)}),
            )]
        },
        status: 422,
    },
    Case {
        name: "conflicts below a long name",
        size: 500,
        calls: |size| {
            let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let apply = |manager: &str, value: i32| {
                let path = format!("{THINGS}/t?fieldManager={manager}");
                let spec = long(size, members(size, &json!(value)));
                ("PATCH", path, APPLY, thing(spec))
            };
            vec![define(&free), apply("a", 1), apply("b", 2)]
        },
        status: 409,
    },
    Case {
        name: "wrong finalizers",
        size: 2_000,
        calls: |size| {
            let wrong = map(json!({"finalizers": vec!["a b"; size]}));
            vec![("POST", MAPS.into(), JSON, wrong)]
        },
        status: 422,
    },
    Case {
        name: "a merge patch of nulls",
        size: 10_000,
        calls: |size| nulls(size, MERGE),
        status: 200,
    },
    Case {
        name: "a strategic patch of nulls",
        size: 10_000,
        calls: |size| nulls(size, STRATEGIC),
        status: 200,
    },
    Case {
        name: "a strategic patch of lists that are merged",
        size: 2_000,
        calls: |size| {
            let (full, patch) = (account(size, 0), account(size, size / 2));
            let path = format!("{ACCOUNTS}/m");
            vec![
                ("POST", ACCOUNTS.into(), JSON, full),
                ("PATCH", path, STRATEGIC, patch),
            ]
        },
        status: 200,
    },
    Case {
        name: "an apply of lists that are merged, after one",
        size: 2_000,
        calls: |size| {
            let path = format!("{ACCOUNTS}/m?fieldManager=me");
            let apply = |from| ("PATCH", path.clone(), APPLY, account(size, from));
            vec![apply(0), apply(size / 2)]
        },
        status: 200,
    },
    Case {
        name: "an update of lists that are merged, after an apply",
        size: 2_000,
        calls: |size| {
            let path = format!("{ACCOUNTS}/m");
            let applied = format!("{path}?fieldManager=me");
            vec![
                ("PATCH", applied, APPLY, account(size, 0)),
                ("PUT", path, JSON, account(size, size / 2)),
            ]
        },
        status: 200,
    },
];

#[tokio::test]
async fn what_a_request_costs_grows_as_the_request() {
    for case in CASES {
        let (small, large) = (case.cost(case.size).await, case.cost(case.size * 4).await);
        let growth = large.as_secs_f64() / small.as_secs_f64();
        println!("{}: {small:?}, {large:?}: {growth:.1} times", case.name);
        assert!(growth < BOUND, "{}: {small:?}, {large:?}", case.name);
    }
}

#[tokio::test]
async fn a_refusal_tells_the_first_causes_and_how_many_more_there_are() {
    let client = cluster().await;
    let wrong = map(json!({"finalizers": vec!["a b"; 1_000]}));
    let call = ("POST", MAPS.into(), JSON, wrong);
    let (status, message) = send(&client, &call).await;
    assert_eq!(status, 422);
    assert!(message.ends_with(", and 1900 more]"), "{message}");
    assert!(
        message.contains("metadata.finalizers: Invalid value: \"a b\""),
        "{message}"
    );
}

#[tokio::test]
async fn what_was_broken_before_may_stay_so_and_what_is_new_may_not() {
    let client = cluster().await;
    let list = |least: usize| {
        let items = json!({"type": "integer", "minimum": least});
        define(&json!({"type": "array", "items": items}))
    };
    let (mut definition, things) = (list(0), format!("{THINGS}/t"));
    assert_eq!(send(&client, &definition).await.0, 200);
    let numbers = |last: i32| {
        let mut numbers = vec![1; 1_000];
        numbers.push(last);
        thing(numbers.into())
    };
    let made = ("POST", THINGS.into(), JSON, numbers(7));
    assert_eq!(send(&client, &made).await.0, 200);
    // A thousand items are too small from now on, more than are told.
    definition.1.push_str("/things.example.com");
    let patch = ("PATCH", definition.1, MERGE, list(5).3);
    let (status, text) = send(&client, &patch).await;
    assert_eq!(status, 200, "{text}");
    for (case, last, expected) in [("what was wrong stays", 8, 200), ("more is wrong", 2, 422)] {
        let change = ("PATCH", things.clone(), MERGE, numbers(last));
        let (status, text) = send(&client, &change).await;
        assert_eq!(status, expected, "{case}: {text:.300}");
        if expected == 422 {
            assert!(text.contains("spec[1000]: Invalid value: 2"), "{text:.300}");
            assert!(!text.contains("more"), "{text:.300}");
        }
    }
}
