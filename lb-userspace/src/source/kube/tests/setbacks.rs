//! Servers that are away, busy, or do not let us in.

use super::*;

#[tokio::test(start_paused = true)]
async fn all_servers_are_tried_before_waiting() {
    let mut script = Script::new(3);
    let mut seen = Vec::new();
    for round in 0..4 {
        for turn in 0..3 {
            let (asked, gap) = script.asked("stream").await;
            seen.push(asked.server);
            asked.fail();
            match (round, turn) {
                (0, 0) => {}
                (_, 0) => assert!(
                    gap >= Duration::from_millis(250 << (round - 1)),
                    "round {round}: {gap:?}"
                ),
                _ => assert!(gap < Duration::from_millis(100), "round {round}: {gap:?}"),
            }
        }
    }
    assert_eq!(seen, [0, 1, 2].repeat(4));
    let (asked, _) = script.asked("stream").await;
    asked.stream().complete(5);
    assert_eq!(script.delivered().await, ".");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_left_alone_as_long_as_it_asks_for() {
    let mut script = Script::new(1);
    let (asked, _) = script.asked("stream").await;
    asked.answer_with(429, &[("Retry-After", "9")], &status(429, "TooManyRequests"));
    let (asked, gap) = script.asked("stream").await;
    assert!((9..=12).contains(&gap.as_secs()), "{gap:?}");
    let details = json!({"retryAfterSeconds": 20});
    asked.answer(
        504,
        &changed(json!({"s": status(504, "Timeout")}), "/s/details", details)["s"],
    );
    let (asked, gap) = script.asked("stream").await;
    assert!((20..=26).contains(&gap.as_secs()), "{gap:?}");
    asked.answer_with(503, &[("Retry-After", "100000")], &json!({}));
    let (_, gap) = script.asked("stream").await;
    assert!(gap <= Duration::from_secs(76), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_half_a_minute_and_begin_anew_after_success() {
    let mut script = Script::new(1);
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let (asked, gap) = script.asked("stream").await;
        longest = longest.max(gap);
        asked.fail();
    }
    assert!((15..=30).contains(&longest.as_secs()), "{longest:?}");
    let stream = script.listed(10, &[]).await;
    stream.cut();
    let (_, gap) = script.asked("watch 10").await;
    assert!(gap <= Duration::from_millis(500), "{gap:?}");
}

/// Else a new Service would be there for half a minute without the endpoints that came with it.
#[tokio::test(start_paused = true)]
async fn a_watch_does_not_wait_out_its_back_off_when_another_is_through() {
    let mut script = Script::new(1);
    for _ in 0..10 {
        script.asked("stream").await.0.fail();
    }
    let (asked, _) = script.asked("stream").await;
    // Before this one has failed, so nobody is waiting yet.
    script.servers.answered();
    asked.fail();
    let (asked, gap) = script.asked("stream").await;
    assert!(gap < Duration::from_millis(100), "{gap:?}");
    asked.fail();
    script.servers.answered();
    let (asked, gap) = script.asked("stream").await;
    assert!(gap < Duration::from_millis(100), "{gap:?}");
    asked.fail();
    let (_, gap) = script.asked("stream").await;
    assert!(gap >= Duration::from_secs(15), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_waited_for_in_the_same_way() {
    let mut script = Script::new(1);
    let message = r#"services is forbidden: User "x" cannot watch resource "services" in API group "" at the cluster scope"#;
    let forbidden = changed(
        json!({"s": status(403, "Forbidden")}),
        "/s/message",
        json!(message),
    )["s"]
        .clone();
    for _ in 0..5 {
        script.asked("stream").await.0.answer(403, &forbidden);
    }
    for _ in 0..5 {
        script.asked("stream").await.0.refuse(401, "Unauthorized");
    }
    script.asked("stream").await.0.stream().complete(5);
    assert_eq!(script.delivered().await, ".");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_the_question_and_does_not_answer_is_left() {
    let mut script = Script::new(2);
    let (silent, _) = script.asked("stream").await;
    let (asked, gap) = script.asked("stream").await;
    assert_eq!((silent.server, asked.server), (0, 1));
    assert!((60..=70).contains(&gap.as_secs()), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_which_nothing_more_comes_is_asked_for_again() {
    let mut script = Script::new(1);
    script.asked("stream").await.0.refuse(422, "Invalid");
    let mut list = script.asked("cache 0").await.0.stream();
    list.raw(r#"{"items":["#);
    let (asked, gap) = script.asked("cache 0").await;
    assert!((20..=22).contains(&gap.as_secs()), "{gap:?}");
    let mut list = asked.stream();
    list.raw(r#"{"items":["#);
    list.end();
    script.asked("cache 0").await.0.stream().cut();
    // Perhaps something in between takes no list of this size.
    script.asked("pages").await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_the_server_does_not_have_is_asked_for_ever_more_rarely() {
    let mut script = Script::new(1);
    let mut longest = Duration::ZERO;
    for _ in 0..6 {
        for way in ["stream", "cache 0", "pages"] {
            let (asked, gap) = script.asked(way).await;
            longest = longest.max(gap);
            asked.refuse(404, "NotFound");
        }
    }
    assert!((15..=30).contains(&longest.as_secs()), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_nobody_listens() {
    let mut script = Script::new(1);
    let (_asked, _) = script.asked("stream").await;
    drop((script.deliveries, script.servers));
    let end = timeout(Duration::from_secs(1), script.requests.recv()).await;
    assert!(matches!(end, Ok(None)), "the watch runs");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_accepted_are_read_anew_and_shown_to_all_servers() {
    let mut script = Script::new(2);
    for round in 0..3 {
        for server in 0..2 {
            let (asked, gap) = script.asked("stream").await;
            assert_eq!(asked.server, server, "round {round}");
            assert!(server == 0 || gap < Duration::from_millis(100), "{gap:?}");
            asked.refuse(401, "Unauthorized");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_no_way_is_left_for_the_next() {
    let mut script = Script::new(2);
    for way in ["stream", "cache 0", "pages"] {
        let (asked, _) = script.asked(way).await;
        assert_eq!(asked.server, 0, "{way}");
        asked.refuse(404, "NotFound");
    }
    assert_eq!(script.asked("stream").await.0.server, 1);
}
