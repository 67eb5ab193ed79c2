#![allow(clippy::unwrap_used)]

use std::task::Waker;

use futures_util::FutureExt;

use super::*;

fn paces(count: u64) -> Vec<Pace> {
    let memory = Arc::new(Memory::default());
    (0..count).map(|number| Pace::new(Arc::clone(&memory), number)).collect()
}

/// Reads up to so many bytes. Returns how many there was room for.
fn read(pace: &Pace, bytes: usize) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut left = bytes;
    while left > 0 {
        let Poll::Ready(room) = pace.poll_room(&mut context) else { break };
        let count = room.min(left);
        pace.bytes_came(count);
        left -= count;
    }
    bytes - left
}

/// Begins a body.
fn begin(pace: &Pace) {
    read(pace, 100);
    pace.enter(Phase::Body);
}

const ALL: usize = usize::MAX >> 1;

/// Returns connections whose bodies hold all the room, and one that waits for some.
fn crowd() -> (Vec<Pace>, Pace) {
    let mut paces = paces(18);
    paces.iter().for_each(begin);
    read(&paces[0], 100 << 20);
    for pace in &paces[1..] {
        read(pace, ALL);
    }
    let last = paces.remove(17);
    assert!(last.lock().waits.is_some());
    (paces, last)
}

/// Checks after a pause in which nothing arrived.
fn look_after(pace: &Pace, pause: Duration) -> Verdict {
    pace.look(Instant::now() + pause)
}

#[test]
fn a_body_that_stalls_is_refused_once_others_wait() {
    let pace = &paces(1)[0];
    begin(pace);
    read(pace, 100 << 10);
    assert_eq!(look_after(pace, PATIENCE * 2), Verdict::Wait);
    let (crowd, _waiting) = crowd();
    assert_eq!(look_after(&crowd[0], PATIENCE / 2), Verdict::Wait);
    assert_eq!(look_after(&crowd[0], PATIENCE), Verdict::Refused);
    assert!(crowd[0].is_refused());
    crowd[0].finish();
    assert_eq!(crowd[0].memory.stalled(), 1);
}

#[test]
fn a_body_that_waits_for_room_is_not_refused() {
    let (_crowd, waiting) = crowd();
    assert_eq!(look_after(&waiting, BODY * 2), Verdict::Wait);
    assert_eq!(waiting.deadline(), None);
    assert_eq!(waiting.waits_since(), None);
}

#[test]
fn bytes_that_trickle_are_no_progress() {
    let (crowd, _waiting) = crowd();
    let before = crowd[0].lock().check;
    read(&crowd[0], 100);
    assert_eq!(crowd[0].lock().check, before);
    read(&crowd[0], STEP_BYTES);
    assert!(crowd[0].lock().check > before);
}

#[test]
fn a_body_that_is_being_handled_keeps_its_room() {
    let (crowd, _waiting) = crowd();
    crowd[0].enter(Phase::Serving);
    assert_eq!(look_after(&crowd[0], BODY * 10), Verdict::Wait);
    assert_eq!(crowd[0].deadline(), None);
}

#[test]
fn the_time_that_a_body_waits_for_room_is_not_its_own() {
    let (crowd, waiting) = crowd();
    let long_ago = Instant::now().checked_sub(BODY * 2).unwrap();
    waiting.lock().since = long_ago;
    waiting.lock().waits = Some(long_ago);
    drop(crowd);
    assert!(read(&waiting, 1) > 0);
    assert_eq!(look_after(&waiting, Duration::ZERO), Verdict::Wait);
    assert_eq!(look_after(&waiting, BODY), Verdict::Slow);
}

#[test]
fn small_requests_never_wait_for_room() {
    let (crowd, _waiting) = crowd();
    let small = Pace::new(Arc::clone(&crowd[0].memory), 5000);
    for _ in 0..3 {
        begin(&small);
        assert_eq!(read(&small, FREE_BYTES - 100), FREE_BYTES - 100);
        small.enter(Phase::Serving);
        small.finish();
    }
}

#[test]
fn a_request_that_ends_gives_its_room_back() {
    let (crowd, waiting) = crowd();
    crowd[0].enter(Phase::Serving);
    crowd[0].finish();
    assert_eq!(read(&waiting, STEP_BYTES), STEP_BYTES);
}

#[test]
fn a_handler_that_drops_a_body_waits_for_no_room() {
    let (crowd, waiting) = crowd();
    for pace in crowd[1..].iter().chain([&waiting]) {
        pace.enter(Phase::Serving);
    }
    assert!(!waiting.memory.room.is_contended());
    for pace in crowd[1..].iter().chain([&waiting]) {
        pace.finish();
    }
    begin(&waiting);
    assert_eq!(read(&waiting, 50_000), 50_000);
}

#[test]
fn unfinished_heads_make_way_for_each_other_in_the_order_they_are_waited_for() {
    let paces = paces(1000);
    for pace in &paces {
        read(pace, 6000);
        read(pace, 1);
    }
    assert!(paces[0].evicted().now_or_never().is_some());
    assert!(paces[999].evicted().now_or_never().is_none());
    let stalled = paces[0].memory.stalled();
    assert!((500..1000).contains(&stalled), "{stalled}");
    assert_eq!(read(&paces[0], 1), 0, "it is being closed");
    assert_eq!(paces[0].memory.stalled(), stalled);
    assert_eq!(read(&paces[999], 1), 1);
}
