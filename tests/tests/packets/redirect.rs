//! Frames from one device out of another: XDP sends them only to devices that are known to take them.

use anyhow::Result;
use lab::packets::Outcome::{SentBack, SentByTc, SentOut};
use lab::packets::{CHOSEN, Case, Datapath, Family, Mac, Packet, Place, Service, Who, check, flags};

use flags::{ACK, PSH, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const VIP: (Who, u16) = (Who::Vip, 80);

fn request(flags: u8) -> Packet {
    Packet::tcp(CLIENT, VIP, flags)
}

/// The request on its way to a backend by the second uplink.
fn by_second(flags: u8) -> Packet {
    Packet::tcp((Who::NodeSecond, CHOSEN), (Who::FarPod, 8080), flags)
        .hop(Mac::Second, Mac::FarNode)
        .forwarded()
}

/// The request on its way to a backend by the uplink it came in by.
fn back(flags: u8) -> Packet {
    Packet::tcp((Who::Node, CHOSEN), (Who::RemotePod, 8080), flags)
        .hop(Mac::Uplink, Mac::RemoteNode)
        .forwarded()
}

fn reply(flags: u8) -> Packet {
    Packet::tcp((Who::FarPod, 8080), (Who::NodeSecond, CHOSEN), flags).hop(Mac::FarNode, Mac::Second)
}

fn to_client(flags: u8) -> Packet {
    Packet::tcp(VIP, CLIENT, flags)
        .hop(Mac::Uplink, Mac::Client)
        .forwarded()
}

fn forbid(datapath: &mut Datapath, _: Family) -> Result<()> {
    datapath.forbid_transmit()
}

fn service(backend: Who) -> [Service; 1] {
    [Service::tcp(VIP.0, VIP.1).backend(backend, 8080)]
}

/// A device that takes no XDP frames loses them without a word.
#[test]
fn xdp_leaves_to_tc_what_goes_out_of_a_device_without_room_for_frames() {
    check([
        Case::new("out of another uplink that takes them", service(Who::FarPod))
            .send(Place::Uplink, request(SYN), SentOut(by_second(SYN)))
            .send(Place::Second, reply(SYN | ACK), SentOut(to_client(SYN | ACK)))
            .send(Place::Uplink, request(ACK), SentOut(by_second(ACK)))
            .send(Place::Uplink, request(ACK | PSH), SentOut(by_second(ACK | PSH))),
        Case::new("out of another uplink that does not", service(Who::FarPod))
            .then("no device takes XDP frames", forbid)
            .send(Place::Uplink, request(SYN), SentByTc(by_second(SYN)))
            .send(Place::Second, reply(SYN | ACK), SentByTc(to_client(SYN | ACK)))
            .send(Place::Uplink, request(ACK), SentByTc(by_second(ACK)))
            .send(Place::Uplink, request(ACK | PSH), SentByTc(by_second(ACK | PSH))),
        Case::new(
            "an established flow, when the device takes them no more",
            service(Who::FarPod),
        )
        .send(Place::Uplink, request(SYN), SentOut(by_second(SYN)))
        .send(Place::Second, reply(SYN | ACK), SentOut(to_client(SYN | ACK)))
        .send(Place::Uplink, request(ACK), SentOut(by_second(ACK)))
        .then("no device takes XDP frames", forbid)
        .send(Place::Uplink, request(ACK | PSH), SentByTc(by_second(ACK | PSH)))
        .send(Place::Second, reply(ACK), SentByTc(to_client(ACK))),
        Case::new(
            "out of the device it came in by it needs no leave",
            service(Who::RemotePod),
        )
        .then("no device takes XDP frames", forbid)
        .send(Place::Uplink, request(SYN), SentBack(back(SYN)))
        .send(Place::Uplink, request(ACK), SentBack(back(ACK))),
    ]);
}
