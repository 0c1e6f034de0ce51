//! HTTP/1.1 as it should go.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::Client;

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let mut client = Client::connect().await;
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
    client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client
        .send("2\r\nab\r\n3;a=b;c=\"d\\\"e\"\r\ncde\r\n0\r\nX-Sum: 1\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    for shown in ["GET /a 0", "POST /b 3", "POST /c 5", "GET /d 0"] {
        assert!(client.read_until(shown).await.contains("HTTP/1.1 200 OK"));
    }
    assert_eq!(client.requests(), 4);
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_served() {
    let mut client = Client::connect().await;
    client.socket.set_nodelay(true).unwrap();
    let request =
        "\r\nPOST /slowly HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for byte in request.bytes() {
        client.socket.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.read_until("POST /slowly 3").await;
}

#[tokio::test]
async fn an_absolute_target_is_served_where_host_agrees() {
    let mut client = Client::connect().await;
    client.send("GET http://Www.Example.com/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n").await;
    client.read_until("GET http://Www.Example.com/a 0").await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("OPTIONS * 0").await;
}

#[tokio::test]
async fn an_http_1_0_client_gets_its_answer_and_the_end() {
    let mut client = Client::connect().await;
    client.send("GET /old HTTP/1.0\r\n\r\n").await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("GET /old 0"), "{answer}");
    client.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_http_1_0_client_that_asks_for_it_keeps_its_connection_where_the_length_is_known() {
    let mut client = Client::connect().await;
    client.send("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
    assert!(client.read_until("GET /a 0").await.contains("connection: keep-alive\r\n"));
    client.send("GET /streamed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = client.read_to_end().await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nabcd"), "{answer}");
}

#[tokio::test]
async fn a_body_of_unknown_length_comes_in_chunks_none_of_which_is_empty() {
    let mut client = Client::connect().await;
    client.send("GET /streamed HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_until("0\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_whose_body_fails_is_cut_behind_what_came_and_never_looks_whole() {
    for (request, end) in [
        ("GET /fails HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n4\r\npart\r\n"),
        ("GET /short HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\nabc"),
    ] {
        let mut client = Client::connect().await;
        client.send(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.ends_with(end), "{answer}");
        assert!(client.serving.await.unwrap().is_err());
    }
    // Where the end of the connection is the end of the body, it has to be another end.
    let mut client = Client::connect().await;
    client.send("GET /fails HTTP/1.0\r\n\r\n").await;
    client.read_until("part").await;
    assert_eq!(client.socket.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_when_its_body_is_wanted() {
    let mut client = Client::connect().await;
    let put = |path| format!("PUT {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
    client.send(&put("/a")).await;
    assert_eq!(client.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc").await;
    assert!(client.read_until("PUT /a 3").await.starts_with("HTTP/1.1 200 OK"));
    client.send(&format!("{}abc", put("/b"))).await;
    assert!(client.read_until("PUT /b 3").await.starts_with("HTTP/1.1 200 OK"), "it did not wait");
    client.send(&put("/unread")).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_service_may_read_the_body_in_a_task_of_its_own() {
    let mut client = Client::connect().await;
    for _ in 0..3 {
        client.send("POST /spawned HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in ["2\r\na", "b\r\n", "3\r\ncde\r\n", "0\r\n", "\r\n"] {
            tokio::task::yield_now().await;
            client.send(piece).await;
        }
        client.read_until("POST /spawned 5").await;
    }
}

#[tokio::test]
async fn a_body_that_came_whole_and_that_nobody_reads_is_passed_over() {
    let mut client = Client::connect().await;
    client.send("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
    client.read_until("unread").await;
    client.send("POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").await;
    client.read_until("unread").await;
    client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("GET /next 0").await;
}

#[tokio::test]
async fn a_status_that_is_no_answer_becomes_500() {
    for request in [
        "GET /early HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /switch HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /switch HTTP/1.0\r\nUpgrade: x\r\n\r\n",
        "POST /switch HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nContent-Length: 9\r\n\r\nabc",
    ] {
        let mut client = Client::connect().await;
        client.send(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.contains(" 500 ") && answer.contains("connection: close"), "{request:?} got {answer}");
    }
}

#[tokio::test]
async fn what_was_asked_before_the_client_fell_silent_is_answered() {
    let mut client = Client::connect().await;
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.socket.shutdown().await.unwrap();
    let answers = client.read_to_end().await;
    assert!(answers.contains("GET /a 0") && answers.ends_with("GET /b 0"), "{answers}");
    client.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let mut client = Client::connect().await;
    client.send("HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.contains("content-length: 9"), "{answer}");
    client.send("DELETE /d HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.contains("204") && !answer.contains("content-length"), "{answer}");
    client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("GET /next 0").await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_never_taken_for_a_request() {
    let mut client = Client::connect().await;
    client.send("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await;
    client.read_until("unread").await;
    client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let rest = client.read_to_end().await;
    assert_eq!(rest, "");
}

#[tokio::test]
async fn no_byte_passes_before_a_switch_and_every_byte_after_it() {
    let mut client = Client::connect().await;
    client.send("GET /switch HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: capitals\r\n\r\nearly ").await;
    client.read_until("\r\n\r\n").await;
    client.send("late").await;
    client.read_until("EARLY LATE").await;
    assert!(!client.serving.is_finished());
    client.socket.shutdown().await.unwrap();
    client.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_switch_that_is_declined_goes_on_as_http() {
    let mut client = Client::connect().await;
    client
        .send("POST /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab")
        .await;
    client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("POST /a 2").await;
    client.read_until("GET /b 0").await;
}

#[tokio::test]
async fn a_drain_closes_an_idle_connection_and_lets_a_busy_one_finish() {
    let mut idle = Client::connect().await;
    idle.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.read_until("GET /a 0").await;
    idle.drain.begin();
    assert_eq!(idle.read_to_end().await, "");
    idle.serving.await.unwrap().unwrap();

    let mut busy = Client::connect().await;
    busy.send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await;
    while busy.metrics.sum(|counters| counters.received_bytes.get()) == 0 {
        tokio::task::yield_now().await;
    }
    busy.drain.begin();
    tokio::task::yield_now().await;
    busy.send("cd").await;
    let answer = busy.read_to_end().await;
    assert!(answer.contains("connection: close") && answer.ends_with("POST /b 4"), "{answer}");
}

#[tokio::test]
async fn a_drain_ends_a_connection_that_never_sent_anything() {
    let mut client = Client::connect().await;
    client.drain.begin();
    assert_eq!(client.read_to_end().await, "");
    client.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_of_the_service_ends_the_connection() {
    let mut client = Client::connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut rest = Vec::new();
    let ended = client.socket.read_to_end(&mut rest).await;
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    assert!(rest.is_empty());
    assert_eq!(client.requests(), 1);
}
