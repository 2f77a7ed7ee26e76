//! What goes to an OTLP endpoint, read by the types that are generated from the protocol's own
//! definitions, and what they answer with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use everpost::Queue;
use everpost::classify::{Classifier, HttpReply};
use everpost::http::{Format, Http};
use everpost::layer::EverpostLayer;
use everpost::sandbox::Sandbox;
use everpost::{Event, Verdict};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tracing_subscriber::prelude::*;

fn text(value: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(value.to_owned())),
    }
}

fn attribute<'a>(record: &'a LogRecord, name: &str) -> &'a Value {
    let mut attributes = record.attributes.iter();
    let attribute = attributes.find(|attribute| attribute.key == name).unwrap();
    attribute.value.as_ref().unwrap().value.as_ref().unwrap()
}

#[tokio::test]
async fn what_is_sent_is_what_the_protocol_defines() {
    let home = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::builder().any_receiver().start().await.unwrap();
    let resource = [("service.name".to_owned(), "shop".to_owned())].into();
    let sink = Http::builder(format!("http://{}/v1/logs", sandbox.address()))
        .format(Format::Otlp { resource })
        .build()
        .unwrap();
    let queue = Queue::builder(home.path().join("spool")).sink(sink).open();
    let queue = queue.await.unwrap();
    queue.pause().await.unwrap();
    let layer = EverpostLayer::new(&queue);
    let log = layer.handle();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("request", path = "/order");
        span.in_scope(|| tracing::warn!(item = 17, price = 1.5, free = false, "no stock"));
    });
    assert!(log.flush(Duration::from_secs(20)));
    let plain = Event::json(r#"{"a":[1,"x",null,{"b":2.5}]}"#).unwrap();
    let id = plain.id().to_string();
    queue.append(plain).await.unwrap();
    queue.resume().await.unwrap();
    assert!(queue.close(Duration::from_secs(20)).await.unwrap().drained);

    let mut records = Vec::new();
    for exchange in sandbox.requests() {
        let body = exchange.body.unwrap();
        let request: ExportLogsServiceRequest = serde_json::from_slice(&body).unwrap();
        for resource in request.resource_logs {
            let of = &resource.resource.as_ref().unwrap().attributes[0];
            assert_eq!(
                (of.key.as_str(), of.value.clone()),
                ("service.name", Some(text("shop")))
            );
            for scope in resource.scope_logs {
                let name = scope.scope.unwrap().name;
                records.extend(scope.log_records.into_iter().map(|r| (name.clone(), r)));
            }
        }
    }
    let [(target, logged), (none, plain)] = records.try_into().unwrap();
    assert_eq!((target.as_str(), none.as_str()), ("otlp", ""));
    assert_eq!(
        (logged.severity_number, logged.severity_text.as_str()),
        (13, "WARN")
    );
    assert_eq!(logged.body, Some(text("no stock")));
    assert_eq!(*attribute(&logged, "item"), Value::IntValue(17));
    assert_eq!(*attribute(&logged, "price"), Value::DoubleValue(1.5));
    assert_eq!(*attribute(&logged, "free"), Value::BoolValue(false));
    assert!(
        matches!(attribute(&logged, "spans"), Value::ArrayValue(spans) if spans.values.len() == 1)
    );
    assert!(logged.time_unix_nano > 1_700_000_000_000_000_000);
    assert_eq!(logged.time_unix_nano, logged.observed_time_unix_nano);
    assert_eq!(*attribute(&plain, "log.record.uid"), Value::StringValue(id));
    let Some(Value::KvlistValue(body)) = plain.body.unwrap().value else {
        panic!("an object is a list of pairs");
    };
    assert_eq!(body.values[0].key, "a");
    assert!(
        matches!(&body.values[0].value, Some(AnyValue { value: Some(Value::ArrayValue(list)) })
            if list.values.len() == 4)
    );
}

#[test]
fn what_the_protocol_answers_is_understood() {
    let meant = |rejected, message: &str| {
        let answer = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: message.to_owned(),
            }),
        };
        let body = serde_json::to_vec(&answer).unwrap();
        Classifier::otlp().outcome(&HttpReply::new(200, &body))
    };
    assert_eq!(meant(0, "").verdict, Verdict::Delivered);
    assert_eq!(meant(0, "slow down").answer.warnings, ["slow down"]);
    let partly = meant(3, "too old");
    assert_eq!(partly.verdict, Verdict::Poison);
    assert_eq!(partly.answer.errors, ["too old"]);
    let none = serde_json::to_vec(&ExportLogsServiceResponse::default()).unwrap();
    let outcome = Classifier::otlp().outcome(&HttpReply::new(200, &none));
    assert_eq!(outcome.verdict, Verdict::Delivered);
}
