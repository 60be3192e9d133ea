//! The ways to list, and what follows from a list.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_streaming_list_becomes_the_watch_without_a_second_request() {
    let mut script = Script::new(1);
    let (asked, _) = script.asked("stream").await;
    let mut stream = asked.stream();
    stream.event("ADDED", &service("web", 3));
    stream.event("ADDED", &service("api", 4));
    stream.event("MODIFIED", &service("web", 5));
    stream.event("DELETED", &service("api", 6));
    tokio::task::yield_now().await;
    script.delivered_nothing();
    stream.complete(7);
    assert_eq!(script.delivered().await, "+web .");
    stream.event("ADDED", &service("db", 8));
    assert_eq!(script.delivered().await, "+db");
    stream.end();
    script.asked("watch 8").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_asked_for_its_cache_at_once() {
    for (code, reason) in [(422, "Invalid"), (400, "BadRequest"), (403, "")] {
        let mut script = Script::new(1);
        script.asked("stream").await.0.refuse(code, reason);
        let (asked, gap) = script.asked("cache 0").await;
        assert_eq!(gap, Duration::ZERO, "{code}");
        asked.list(7, &[service("web", 5)]);
        assert_eq!(script.delivered().await, "+web .");
        script.asked("watch 7").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_that_is_never_completed_gives_way_to_the_cache() {
    for kind in ["silence", "end", "cut"] {
        let mut script = Script::new(1);
        let mut stream = script.asked("stream").await.0.stream();
        stream.event("ADDED", &service("web", 5));
        let held = match kind {
            "silence" => Some(stream),
            "end" => {
                stream.end();
                None
            }
            _ => {
                stream.cut();
                None
            }
        };
        let (asked, gap) = script.asked("cache 0").await;
        assert!(gap < Duration::from_secs(30), "{kind}: {gap:?}");
        drop(held);
        script.delivered_nothing();
        asked.list(7, &[service("api", 6)]);
        assert_eq!(script.delivered().await, "+api .", "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_serve_gives_way_to_pages() {
    let mut script = Script::new(1);
    script.asked("stream").await.0.refuse(422, "Invalid");
    script.asked("cache 0").await.0.refuse(410, "Expired");
    script
        .asked("pages")
        .await
        .0
        .page(9, &[service("a", 1), service("b", 2)], "t1");
    script.asked("pages t1").await.0.page(9, &[service("c", 3)], "t2");
    script.delivered_nothing();
    script.asked("pages t2").await.0.page(9, &[service("d", 4)], "");
    assert_eq!(script.delivered().await, "+a +b +c +d .");
    script.asked("watch 9").await;
}

#[tokio::test(start_paused = true)]
async fn pages_that_expire_are_read_anew_then_in_one_piece() {
    let mut script = Script::new(1);
    script.asked("stream").await.0.refuse(422, "Invalid");
    script.asked("cache 0").await.0.refuse(410, "Expired");
    for _ in 0..2 {
        script.asked("pages").await.0.page(9, &[service("old", 1)], "t1");
        script.asked("pages t1").await.0.refuse(410, "Expired");
    }
    script.asked("whole").await.0.list(10, &[service("new", 5)]);
    assert_eq!(script.delivered().await, "+new .");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_lags_behind_is_given_time_and_then_up() {
    let mut script = Script::new(1);
    let mut stream = script.listed(100, &[service("web", 90)]).await;
    stream.error(410, "Expired");
    script.asked("stream 100").await.0.refuse(422, "Invalid");
    for _ in 0..3 {
        script.asked("cache 100").await.0.refuse(504, "Timeout");
    }
    // The cluster was restored from a backup: the truth is older than what is known.
    script.asked("pages").await.0.list(50, &[service("web", 40)]);
    assert_eq!(script.delivered().await, "+web .");
    script.asked("watch 50").await;
}

/// It may be that of another history, which has become longer than the one that was known.
#[tokio::test(start_paused = true)]
async fn a_quorum_list_is_told_whole() {
    let mut script = Script::new(1);
    let mut stream = script.listed(100, &[service("web", 90)]).await;
    stream.error(410, "Expired");
    script.asked("stream 100").await.0.refuse(422, "Invalid");
    script.asked("cache 100").await.0.refuse(410, "Expired");
    script.asked("pages").await.0.list(120, &[service("web", 90)]);
    assert_eq!(script.delivered().await, "+web .");
    script.asked("watch 120").await;
}

#[tokio::test(start_paused = true)]
async fn a_cached_list_older_than_what_was_applied_is_not_applied() {
    let mut script = Script::new(1);
    let mut stream = script
        .listed(100, &[service("web", 90), service("api", 95)])
        .await;
    stream.error(410, "Expired");
    let mut stream = script.asked("stream 100").await.0.stream();
    stream.event("ADDED", &service("web", 80));
    stream.complete(85);
    script.asked("stream 100").await.0.refuse(422, "Invalid");
    script.asked("cache 100").await.0.list(85, &[service("web", 80)]);
    let (asked, _) = script.asked("cache 100").await;
    script.delivered_nothing();
    asked.list(100, &[service("web", 90), service("api", 95)]);
    assert_eq!(script.delivered().await, ".");
}

#[tokio::test(start_paused = true)]
async fn what_a_list_does_not_have_is_gone_and_what_did_not_change_is_not_told_again() {
    let mut script = Script::new(1);
    let objects = [service("a", 1), service("b", 2), service("c", 3)];
    let mut stream = script.listed(10, &objects).await;
    stream.error(410, "Expired");
    let mut stream = script.asked("stream 10").await.0.stream();
    stream.event("ADDED", &service("a", 1));
    stream.event("ADDED", &service("c", 12));
    stream.complete(15);
    assert_eq!(script.delivered().await, "-b +c .");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_removes_nothing() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 1), service("b", 2)]).await;
    stream.error(410, "Expired");
    let mut stream = script.asked("stream 10").await.0.stream();
    stream.event("ADDED", &service("a", 1));
    stream.cut();
    let mut list = script.asked("cache 10").await.0.stream();
    list.raw(&json!({"items": [service("a", 1)]}).to_string()[..40]);
    list.cut();
    script.asked("cache 10").await.0.refuse(410, "Expired");
    script.asked("pages").await.0.page(11, &[service("a", 1)], "t");
    script.asked("pages t").await.0.fail();
    let (asked, _) = script.asked("pages").await;
    script.delivered_nothing();
    asked.list(11, &[service("a", 1), service("b", 2)]);
    assert_eq!(script.delivered().await, "+a +b .");
}
