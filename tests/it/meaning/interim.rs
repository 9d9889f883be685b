//! Requests that expect something, and what comes before an answer.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{NO, OK, in_front_of, upstream};
use crate::support::{Connection, peer::field, within_deadline};

const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn a_100_is_sent_by_the_service_and_when_the_service_wants() {
    let told = Arc::new(Notify::new());
    let telling = Arc::clone(&told);
    let server = upstream(move |mut connection| {
        let told = Arc::clone(&telling);
        async move {
            let head = connection.read_head().await.unwrap();
            assert_eq!(field(&head, "expect"), Some("100-continue"), "{head}");
            told.notified().await;
            connection.write(GO_ON).await;
            assert_eq!(connection.read_exact(5).await, b"hello");
            connection.write(OK).await;
            connection.read_to_end().await;
        }
    });
    let sidecar = in_front_of(&server);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
        Expect: 100-continue\r\n\r\n";
    client.write(head).await;
    let silence = std::time::Duration::from_millis(300);
    let early = tokio::time::timeout(silence, client.readable()).await;
    assert!(early.is_err(), "told to continue by somebody else");
    told.notify_one();
    let interim = client.read_head().await.unwrap();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.write("hello").await;
    let (answer, body) = client.read_message().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn a_final_answer_without_a_100_is_all_that_a_waiting_client_gets() {
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        for answer in [NO, OK] {
            let server = upstream(move |mut connection| async move {
                let head = connection.read_head().await.unwrap();
                assert_eq!(field(&head, "expect"), Some("100-continue"), "{head}");
                connection.write(answer).await;
                // Nothing more comes: nobody has asked for the body.
                let rest = connection.read_to_end().await;
                assert!(rest.is_empty(), "{}", rest.escape_ascii());
            });
            let sidecar = in_front_of(&server);
            let mut client = Connection::to(sidecar.proxy_address()).await;
            let head = format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\nExpect: 100-continue\r\n\r\n"
            );
            client.write(head).await;
            let (got, _) = client.read_message().await.unwrap();
            let (line, _) = answer.split_once("\r\n").unwrap();
            assert!(got.starts_with(line), "{got}");
            client.finish().await;
            let rest = client.read_to_end().await;
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        }
    }
}

#[tokio::test]
async fn each_interim_answer_comes_when_it_is_said() {
    let heard = Arc::new(Notify::new());
    let hearing = Arc::clone(&heard);
    let server = upstream(move |mut connection| {
        let heard = Arc::clone(&hearing);
        async move {
            connection.read_head().await.unwrap();
            for number in 1..=5 {
                let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: </{number}>\r\n\r\n");
                connection.write(hint).await;
                heard.notified().await;
            }
            connection.write(OK).await;
            connection.read_to_end().await;
        }
    });
    let sidecar = in_front_of(&server);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    for number in 1..=5 {
        let hint = within_deadline(client.read_head()).await.unwrap().unwrap();
        assert!(hint.starts_with("HTTP/1.1 103 "), "{hint}");
        assert_eq!(field(&hint, "link"), Some(&*format!("</{number}>")));
        heard.notify_one();
    }
    let (answer, body) = client.read_message().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!((field(&answer, "link"), &body[..]), (None, &b"ok"[..]));
}
