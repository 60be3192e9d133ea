//! S11: nothing is written before the first lists and the own Node are in.

use super::super::gate::{Delivery, join};
use super::super::resource::Which;
use super::*;
use crate::model::Node;

struct Gated {
    deliveries: mpsc::Sender<Delivery>,
    batches: mpsc::Receiver<Vec<Update>>,
    began: Instant,
}

impl Gated {
    fn new() -> Self {
        let (deliveries, delivered) = mpsc::channel(16);
        let (sender, batches) = mpsc::channel(16);
        tokio::spawn(join(delivered, sender, "n1".to_owned()));
        Self {
            deliveries,
            batches,
            began: Instant::now(),
        }
    }

    async fn deliver(&self, from: Which, updates: Vec<Update>) {
        let listed = true;
        let delivery = Delivery {
            from,
            updates,
            listed,
        };
        assert!(self.deliveries.send(delivery).await.is_ok());
        // What comes later is another batch.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// When the lists are declared done, in seconds since the start; everything before is counted.
    async fn opened(&mut self) -> (u64, usize) {
        let mut before = 0;
        loop {
            let batch = timeout(Duration::from_secs(600), self.batches.recv()).await;
            let batch = batch.expect("a batch").expect("it runs");
            before += batch.len();
            if let Some(position) = batch
                .iter()
                .position(|update| *update == Update::InitialListsDone)
            {
                assert_eq!(position, batch.len() - 1);
                return (self.began.elapsed().as_secs(), before - 1);
            }
        }
    }
}

fn node() -> Update {
    Update::NodeApplied(Node {
        name: "n1".to_owned(),
        zone: None,
        internal_ips: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        leaving: false,
    })
}

#[tokio::test(start_paused = true)]
async fn it_opens_with_the_last_of_three_in_any_order() {
    let all = [
        (Which::Services, Vec::new()),
        (Which::EndpointSlices, Vec::new()),
        (Which::OwnNode, vec![node()]),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut gated = Gated::new();
        for index in order {
            let early = gated.batches.try_recv().unwrap_or_default();
            assert!(!early.contains(&Update::InitialListsDone), "{order:?}");
            let (which, updates) = all[index].clone();
            gated.deliver(which, updates).await;
        }
        assert_eq!(gated.opened().await.0, 0, "{order:?}");
        gated.deliver(Which::Services, Vec::new()).await;
        assert!(gated.batches.try_recv().is_err(), "it opens once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_there_is_waited_for_half_a_minute() {
    let mut gated = Gated::new();
    gated.deliver(Which::Services, Vec::new()).await;
    gated.deliver(Which::OwnNode, Vec::new()).await;
    gated.deliver(Which::EndpointSlices, Vec::new()).await;
    assert_eq!(gated.opened().await.0, 30);
}

#[tokio::test(start_paused = true)]
async fn lists_are_waited_for_as_long_as_it_takes_and_the_node_a_moment_more() {
    let mut gated = Gated::new();
    gated.deliver(Which::Services, Vec::new()).await;
    gated.deliver(Which::OwnNode, Vec::new()).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(gated.batches.try_recv().is_err());
    gated.deliver(Which::EndpointSlices, Vec::new()).await;
    assert_eq!(gated.opened().await.0, 305);
    gated.deliver(Which::OwnNode, vec![node()]).await;
    assert_eq!(gated.batches.recv().await, Some(vec![node()]));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_went_again_is_not_there() {
    let mut gated = Gated::new();
    gated.deliver(Which::OwnNode, vec![node()]).await;
    gated
        .deliver(Which::OwnNode, vec![Update::NodeDeleted("n1".to_owned())])
        .await;
    gated.deliver(Which::Services, Vec::new()).await;
    gated.deliver(Which::EndpointSlices, Vec::new()).await;
    assert_eq!(gated.opened().await, (30, 2));
}

/// The API server was away, and the Node's watch is the last to find out that it is back.
#[tokio::test(start_paused = true)]
async fn a_node_of_which_nothing_is_known_is_waited_for_after_the_lists() {
    for (node_comes, opens) in [(true, 325), (false, 330)] {
        let mut gated = Gated::new();
        tokio::time::sleep(Duration::from_secs(300)).await;
        gated.deliver(Which::Services, Vec::new()).await;
        gated.deliver(Which::EndpointSlices, Vec::new()).await;
        if node_comes {
            tokio::time::sleep(Duration::from_secs(25)).await;
            gated.deliver(Which::OwnNode, vec![node()]).await;
        }
        assert_eq!(gated.opened().await, (opens, usize::from(node_comes)));
    }
}
