//! What a watch tells, and how it goes on when it ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn events_that_are_ready_are_one_delivery() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[]).await;
    let lines: Vec<String> = [("ADDED", "a", 11), ("ADDED", "b", 12), ("DELETED", "a", 13)]
        .map(|(event_type, name, version)| {
            json!({"type": event_type, "object": service(name, version)}).to_string()
        })
        .to_vec();
    stream.raw(&format!("{}\n", lines.join("\n")));
    assert_eq!(script.delivered().await, "+a +b -a");
    stream.bookmark(20);
    stream.end();
    script.asked("watch 20").await;
    script.delivered_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_from_where_it_was_at_once() {
    let mut script = Script::new(1);
    let stream = script.listed(10, &[]).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    stream.end();
    let (asked, gap) = script.asked("watch 10").await;
    assert_eq!(gap.as_secs(), 100);
    let mut stream = asked.stream();
    stream.event("ADDED", &service("a", 11));
    assert_eq!(script.delivered().await, "+a");
    stream.end();
    let (_, gap) = script.asked("watch 11").await;
    assert_eq!(gap, Duration::from_secs(1), "not faster than this");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_without_a_word_is_a_failure() {
    let mut script = Script::new(1);
    script.listed(10, &[]).await.end();
    let mut gaps = Vec::new();
    script.asked("watch 10").await.0.stream().end();
    for _ in 0..2 {
        let (asked, gap) = script.asked("watch 10").await;
        asked.stream().end();
        gaps.push(gap);
    }
    assert!(gaps[0] >= Duration::from_millis(250), "{gaps:?}");
    assert!(gaps[1] >= Duration::from_millis(500), "{gaps:?}");
    // Perhaps it is the version that the server will not have.
    script.asked("stream 10").await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_expired_is_listed_anew() {
    for over in ["an event", "a status"] {
        let mut script = Script::new(1);
        let mut stream = script.listed(10, &[service("a", 5)]).await;
        if over == "an event" {
            stream.error(410, "Expired");
        } else {
            stream.end();
            script.asked("watch 10").await.0.refuse(410, "Gone");
        }
        let (asked, gap) = script.asked("stream 10").await;
        assert_eq!(gap, Duration::ZERO, "{over}");
        let mut stream = asked.stream();
        stream.complete(20);
        assert_eq!(script.delivered().await, "-a .", "{over}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_expires_over_and_over_is_not_listed_in_a_storm() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[]).await;
    let began = Instant::now();
    for _ in 0..12 {
        stream.error(410, "Expired");
        stream = script.asked("stream 10").await.0.stream();
        stream.complete(10);
        assert_eq!(script.delivered().await, ".");
    }
    assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn other_errors_of_a_watch_are_waited_out() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[]).await;
    stream.event("ADDED", &service("a", 11));
    stream.error(500, "InternalError");
    assert_eq!(script.delivered().await, "+a", "what came before it counts");
    let (asked, gap) = script.asked("watch 11").await;
    assert!(gap >= Duration::from_millis(250), "{gap:?}");
    asked.stream().cut();
    let (_, gap) = script.asked("watch 11").await;
    assert!(gap >= Duration::from_millis(500), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_is_given_up() {
    let mut script = Script::new(1);
    let stream = script.listed(10, &[]).await;
    let (asked, gap) = script.asked("watch 10").await;
    assert!((230..=322).contains(&gap.as_secs()), "{gap:?}");
    drop(stream);
    let mut slow = asked.stream();
    // Not even by one who says something now and then.
    let talk = async {
        loop {
            tokio::time::sleep(Duration::from_secs(50)).await;
            slow.bookmark(15);
        }
    };
    tokio::select! {
        () = talk => unreachable!("it talks for ever"),
        (_, gap) = script.asked("watch 15") => assert!((230..=322).contains(&gap.as_secs()), "{gap:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_version_that_the_server_has_not_reached_is_found_out() {
    let mut script = Script::new(1);
    script.listed(1_000, &[service("a", 900)]).await.end();
    let stream = script.asked("watch 1000").await.0.stream();
    // No event and no bookmark, and its end in order.
    tokio::time::sleep(Duration::from_secs(200)).await;
    stream.end();
    script.asked("stream 1000").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_goes_back_is_not_followed() {
    let mut script = Script::new(1);
    let mut stream = script.listed(100, &[service("a", 90)]).await;
    stream.event("MODIFIED", &service("a", 80));
    script.asked("stream 100").await;
    script.delivered_nothing();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_may_have_been_one() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 5)]).await;
    stream.event("ADDED", &service("b", 11));
    stream.raw("<html>gateway</html>\n");
    assert_eq!(script.delivered().await, "+b");
    script.asked("stream 11").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_for_its_silence_goes_on_at_once_each_time() {
    // As load balancers do, sooner than a bookmark is due.
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[]).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(35)).await;
        stream.cut();
        let (asked, gap) = script.asked("watch 10").await;
        assert!(gap < Duration::from_secs(36), "{gap:?}");
        stream = asked.stream();
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_server_has_not_reached_is_found_out_though_watches_are_cut() {
    let mut script = Script::new(1);
    let mut stream = script.listed(1_000, &[service("a", 900)]).await;
    for _ in 0..18 {
        tokio::time::sleep(Duration::from_secs(35)).await;
        stream.cut();
        stream = script.asked("watch 1000").await.0.stream();
    }
    tokio::time::sleep(Duration::from_secs(35)).await;
    stream.cut();
    script.asked("stream 1000").await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_which_nothing_happens_is_listed_now_and_then_and_never_left_unwatched() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[]).await;
    for _ in 0..8 {
        for next in ["watch 10", "stream 10"] {
            tokio::time::sleep(Duration::from_secs(200)).await;
            stream.end();
            let (asked, gap) = script.asked(next).await;
            assert_eq!(gap.as_secs(), 200, "{next}");
            stream = asked.stream();
        }
        stream.complete(10);
        assert_eq!(script.delivered().await, ".");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_watches_lead_nowhere_is_not_asked_for_in_a_storm() {
    for garbage in [false, true] {
        let mut script = Script::new(1);
        let mut stream = script.listed(10, &[]).await;
        let began = Instant::now();
        for _ in 0..12 {
            if garbage {
                stream.raw("<html>gateway</html>\n");
            } else {
                stream.end();
                for _ in 0..3 {
                    script.asked("watch 10").await.0.stream().end();
                }
            }
            stream = script.asked("stream 10").await.0.stream();
            stream.complete(10);
            assert_eq!(script.delivered().await, ".");
        }
        assert!(
            began.elapsed() > Duration::from_secs(40),
            "{garbage}: {:?}",
            began.elapsed()
        );
    }
}
