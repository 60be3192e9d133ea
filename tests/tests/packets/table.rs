//! Where a flow's entry stands, who gives way when there is no room, and what a lock that stays taken means.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lab::packets::{
    Case, Datapath, Family, HZ, Hook, Keep, Options, Outcome, Packet, Place, Service, State, TablePlace,
    Testbed, Verdict, Who, check, flags,
};
use lb_common::flow::WAYS;
use lb_common::lifetime::seen;
use lb_common::protocol::TCP;
use lb_common::reason::Reason;

use flags::{ACK, SYN};

type Client = (Who, u16);

const VIP: (Who, u16) = (Who::Vip, 80);
const POD: (Who, u16) = (Who::Pod, 8080);

/// The two buckets that the requests of a test may stand in.
const FIRST: u32 = 5;
const SECOND: u32 = 44;

/// As many as stand in both, and two more.
const CLIENTS: usize = 2 * WAYS + 2;

/// A node with an empty table, and clients whose requests compete for two of its buckets.
struct Play<'a> {
    bed: &'a Testbed,
    datapath: &'a mut Datapath,
    family: Family,
    /// Their requests may stand in [`FIRST`] and [`SECOND`], in this order, their replies in neither.
    clients: [Client; CLIENTS],
}

/// Plays for both families.
fn play(story: impl Fn(&mut Play)) {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        println!("{family:?}");
        datapath.reset(&bed).expect("empty maps");
        let service = Service::tcp(VIP.0, VIP.1).backend(POD.0, POD.1);
        datapath.install(family, &[service]).expect("a service");
        let clients = rivals(&datapath, family);
        story(&mut Play {
            bed: &bed,
            datapath: &mut datapath,
            family,
            clients,
        });
    }
}

fn socket((who, port): (Who, u16), family: Family) -> SocketAddr {
    SocketAddr::new(who.ip(family), port)
}

fn rivals(datapath: &Datapath, family: Family) -> [Client; CLIENTS] {
    let everybody = (0..8).flat_map(|n| (1024..=u16::MAX).map(move |port| (Who::Crowd(n), port)));
    let competes = |client: &Client| {
        let client = socket(*client, family);
        let request = datapath.buckets_of(TCP, client, socket(VIP, family));
        let (first, second) = datapath.buckets_of(TCP, socket(POD, family), client);
        request == (FIRST, SECOND) && [first, second].iter().all(|b| ![FIRST, SECOND].contains(b))
    };
    let mut rivals = everybody.filter(competes);
    std::array::from_fn(|_| rivals.next().expect("one of half a million tuples"))
}

impl Play<'_> {
    /// Sends a segment of a client; what came of it, and what was counted.
    fn send(&mut self, client: Client, flags: u8) -> (Verdict, BTreeMap<Reason, u64>) {
        let packet = Packet::tcp(client, VIP, flags);
        let before = self.datapath.reasons().expect("counters");
        let frame = packet.frame(self.family);
        let run = Hook::UplinkIn
            .run(self.datapath, self.bed, &frame)
            .expect("a run");
        if run.verdict == Verdict::Pass && run.frame != frame {
            assert_eq!(run.frame, packet.to(POD.0, POD.1).frame(self.family));
        }
        let counted = self.datapath.reasons().expect("counters").into_iter();
        let counted = counted
            .map(|(reason, n)| (reason, n - before[&reason]))
            .filter(|(_, n)| *n != 0);
        (run.verdict, counted.collect())
    }

    /// A new connection, which must reach the pod.
    fn begin(&mut self, client: Client) {
        let (verdict, counted) = self.send(client, SYN);
        let expected = BTreeMap::from([(Reason::ToStack, 1)]);
        assert_eq!((verdict, counted), (Verdict::Pass, expected), "SYN of {client:?}");
    }

    /// The first `n` of the clients, one after the other.
    fn begin_all(&mut self, n: usize) {
        let clients = self.clients;
        for client in &clients[..n] {
            self.begin(*client);
        }
    }

    /// Whether a segment finds its flow.
    fn is_known(&mut self, client: Client) -> bool {
        let (verdict, counted) = self.send(client, ACK);
        assert_eq!(verdict, Verdict::Pass, "ACK of {client:?}: {counted:?}");
        !counted.contains_key(&Reason::MidFlow)
    }

    /// Where the entries of a client's requests stand.
    fn stands(&self, client: Client) -> Vec<(u32, usize)> {
        self.entries(socket(client, self.family), socket(VIP, self.family))
    }

    /// Where the entries of the pod's replies to it stand.
    fn reply_stands(&self, client: Client) -> Vec<(u32, usize)> {
        self.entries(socket(POD, self.family), socket(client, self.family))
    }

    fn entries(&self, src: SocketAddr, dst: SocketAddr) -> Vec<(u32, usize)> {
        let table = self.datapath.table(self.family).expect("the table");
        table
            .flows()
            .filter(|(_, _, flow)| (flow.src, flow.dst) == (src, dst))
            .map(|(bucket, way, _)| (bucket, way))
            .collect()
    }

    fn place(&self, (bucket, way): (u32, usize)) -> TablePlace {
        self.datapath
            .table(self.family)
            .expect("the table")
            .bucket(bucket)[way]
    }

    fn number_of_entries(&self) -> usize {
        self.datapath
            .table(self.family)
            .expect("the table")
            .flows()
            .count()
    }

    /// Does something to the entry of a client's requests.
    fn change(&mut self, client: Client, keep: impl Fn(State) -> Keep) {
        let key = (socket(client, self.family), socket(VIP, self.family));
        let mut found = 0;
        self.datapath
            .each_flow(self.family, |flow| {
                if (flow.src, flow.dst) != key {
                    return Keep::Unchanged;
                }
                found += 1;
                keep(flow.state)
            })
            .expect("the table");
        assert_eq!(found, 1, "entries of {client:?}");
    }

    /// Its flow has not been seen for so many ticks.
    fn idle(&mut self, client: Client, ticks: u32) {
        self.change(client, |state| {
            Keep::With(State {
                last: state.last.wrapping_sub(ticks),
                ..state
            })
        });
    }

    /// Its flow, half open, is long over.
    fn expire(&mut self, client: Client) {
        self.idle(client, 100 * HZ);
    }
}

#[test]
fn the_second_bucket_is_used_when_the_first_is_full() {
    play(|play| {
        play.begin_all(2 * WAYS);
        let clients = play.clients;
        for (n, client) in clients[..2 * WAYS].iter().copied().enumerate() {
            let bucket = if n < WAYS { FIRST } else { SECOND };
            assert_eq!(play.stands(client), [(bucket, n % WAYS)], "connection {n}");
            assert!(play.is_known(client), "connection {n}");
        }
    });
}

/// A look into the second bucket is a cache miss, which most packets of others must not pay.
#[test]
fn the_second_bucket_is_read_only_when_the_first_is_full() {
    play(|play| {
        play.begin_all(WAYS + 1);
        let (last, beyond) = (play.clients[WAYS - 1], play.clients[WAYS]);
        assert!(play.is_known(beyond));
        // No program does that.
        play.change(last, |_| Keep::Not);
        assert!(
            !play.is_known(beyond),
            "it was looked for behind a bucket with room"
        );
    });
}

#[test]
fn what_stands_in_the_second_bucket_stays_reachable() {
    play(|play| {
        play.begin_all(WAYS + 1);
        let (beyond, newcomer) = (play.clients[WAYS], play.clients[WAYS + 1]);
        play.expire(play.clients[0]);
        assert!(play.is_known(beyond), "when a flow in the first has expired");
        let clients = play.clients;
        for client in &clients[1..WAYS] {
            play.change(*client, |_| Keep::TakenBack);
        }
        assert!(play.is_known(beyond), "when others were taken back");
        play.begin(newcomer);
        assert_eq!(play.stands(newcomer).len(), 1);
        assert_eq!(
            play.stands(newcomer)[0].0,
            FIRST,
            "room in the first is used first"
        );
        assert!(play.is_known(beyond), "when a new flow has come into the first");
        assert_eq!(play.stands(beyond), [(SECOND, 0)]);
    });
}

#[test]
fn a_bucket_grows_only_when_all_its_flows_live() {
    play(|play| {
        play.begin_all(2);
        play.expire(play.clients[0]);
        let newcomer = play.clients[2];
        play.begin(newcomer);
        assert_eq!(play.stands(newcomer), [(FIRST, 0)]);
    });
}

#[test]
fn with_both_full_the_longest_idle_gives_way_with_its_other_half() {
    for victim in [2, WAYS + 1] {
        play(|play| {
            play.begin_all(2 * WAYS);
            let clients = play.clients;
            for (n, client) in clients[..2 * WAYS].iter().enumerate() {
                play.idle(*client, if n == victim { HZ / 2 } else { HZ / 100 });
            }
            let (place, other_half) = (play.stands(clients[victim]), play.reply_stands(clients[victim]));
            let newcomer = clients[2 * WAYS];

            let (verdict, counted) = play.send(newcomer, SYN);
            assert_eq!(verdict, Verdict::Pass);
            assert_eq!(
                counted,
                BTreeMap::from([(Reason::Evicted, 1), (Reason::ToStack, 1)])
            );

            assert_eq!(play.stands(newcomer), place, "it takes the place");
            assert_eq!(play.stands(clients[victim]), []);
            assert_eq!(play.reply_stands(clients[victim]), []);
            assert_eq!(
                play.place(other_half[0]),
                TablePlace::TakenBack,
                "a place once used never looks empty again"
            );
            assert!(!play.is_known(clients[victim]));
            for (n, client) in clients[..=2 * WAYS]
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != victim)
            {
                assert!(play.is_known(*client), "connection {n} is still there");
                assert_eq!(play.reply_stands(*client).len(), 1, "and its other half, {n}");
            }
        });
    }
}

#[test]
fn flows_that_are_over_give_way_before_live_ones() {
    type Over = fn(State) -> Keep;
    let reset: Over = |state| {
        Keep::With(State {
            own: state.own | seen::RST,
            last: state.last.wrapping_sub(11 * HZ),
            ..state
        })
    };
    let dead: Over = |state| {
        Keep::With(State {
            generation: state.generation - 2,
            ..state
        })
    };
    for (name, over) in [("reset and expired", reset), ("of a dead backend", dead)] {
        for gone in [1, WAYS + 2] {
            play(|play| {
                play.begin_all(2 * WAYS);
                let clients = play.clients;
                // Longer idle than any, and alive.
                play.idle(clients[0], 30 * HZ);
                play.change(clients[gone], over);
                let place = play.stands(clients[gone]);
                play.begin(clients[2 * WAYS]);
                assert_eq!(play.stands(clients[2 * WAYS]), place, "{name}");
                assert_eq!(play.stands(clients[0]), [(FIRST, 0)], "{name}");
            });
        }
    }
}

#[test]
fn a_flow_is_never_doubled() {
    play(|play| {
        play.begin_all(WAYS + 1);
        let clients = play.clients;
        let beyond = clients[WAYS];
        // The first bucket has room again, and the flow begins anew.
        play.expire(clients[1]);
        play.expire(beyond);
        play.begin(beyond);
        assert_eq!(play.stands(beyond), [(SECOND, 0)]);
        assert_eq!(play.reply_stands(beyond).len(), 1);
        // A repeated SYN is the same flow's.
        play.begin(beyond);
        assert_eq!(play.stands(beyond), [(SECOND, 0)]);
        assert_eq!(play.reply_stands(beyond).len(), 1);
    });
}

#[test]
fn a_lock_that_stays_taken_is_a_counted_drop() {
    play(|play| {
        play.begin_all(WAYS + 1);
        let clients = play.clients;
        let (beyond, newcomer) = (clients[WAYS], clients[WAYS + 1]);
        let family = play.family;
        let entries = play.number_of_entries();
        let busy = (Verdict::Drop, BTreeMap::from([(Reason::Busy, 1)]));
        for bucket in [FIRST, SECOND] {
            play.datapath.lock_bucket(family, bucket, true).expect("a lock");
            assert_eq!(play.send(newcomer, SYN), busy, "bucket {bucket} is locked");
            assert_eq!(play.number_of_entries(), entries, "nothing half made is left");
            for client in &clients[..=WAYS] {
                assert!(play.is_known(*client), "readers take no lock");
            }
            play.datapath.lock_bucket(family, bucket, false).expect("a lock");
        }
        // The first bucket has room, but the key may stand in the second.
        play.expire(clients[1]);
        play.expire(beyond);
        play.datapath.lock_bucket(family, SECOND, true).expect("a lock");
        assert_eq!(play.send(beyond, SYN), busy);
        assert_eq!(play.stands(beyond), [(SECOND, 0)], "it must not be doubled");
        play.datapath.lock_bucket(family, SECOND, false).expect("a lock");
        play.begin(beyond);
        assert_eq!(play.stands(beyond), [(SECOND, 0)]);
    });
}

/// Most packets of a host are nobody's; the table costs them a cache miss each.
#[test]
fn the_prefilter_is_asked_before_the_table() {
    fn forget(datapath: &mut Datapath, _: Family) -> anyhow::Result<()> {
        datapath.forget_prefilter()
    }
    let client = (Who::Client, 40_000);
    let packet = |flags| Packet::tcp(client, VIP, flags);
    let to_pod = |packet: Packet| Outcome::ToStack(packet.to(POD.0, POD.1));
    let reply = Packet::tcp(POD, client, ACK).leaving();
    let untouched = Outcome::Untouched(Reason::NotOurs);
    let service = || [Service::tcp(VIP.0, VIP.1).backend(POD.0, POD.1)];
    let known = |name| Case::new(name, service()).send(Place::Uplink, packet(SYN), to_pod(packet(SYN)));
    check([
        known("a flow with an announced address")
            .send(Place::Uplink, packet(ACK), to_pod(packet(ACK)))
            .send(
                Place::Leaving,
                reply.clone(),
                Outcome::ToStack(reply.clone().from(VIP.0, VIP.1)),
            ),
        known("a flow nobody has announced")
            .then("both addresses are withdrawn", forget)
            .send(Place::Uplink, packet(ACK), untouched.clone())
            .send(Place::Uplink, packet(SYN), untouched.clone())
            .send(Place::Uplink, packet(ACK).with_extra_headers(), untouched.clone())
            .send(Place::Leaving, reply, untouched),
    ]);
}
