//! What is kept for whom when consumers change, go and come back.

use super::*;
use crate::record::InactiveReason;
use crate::tables::Forgotten;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn uplink(filter: &str) -> ConsumerSpec {
    ConsumerSpec {
        name: "uplink/home".into(),
        kind: ConsumerKind::Uplink,
        filters: vec![Filter { component: "pubsub".into(), topic: filter.into() }],
        dead_letter: None,
    }
}

fn app() -> ConsumerSpec {
    ConsumerSpec { name: "app/a".into(), kind: ConsumerKind::App, ..uplink("#") }
}

fn enlist(engine: &mut Engine, spec: ConsumerSpec) -> ConsumerId {
    one(engine, vec![Op::Register(spec)]).unwrap().registered.unwrap()
}

fn deactivate(engine: &mut Engine, name: &str, reason: InactiveReason) {
    one(engine, vec![Op::Deactivate { name: name.into(), reason }]).unwrap();
}

fn forget(engine: &mut Engine, name: &str) -> Forgotten {
    let forgotten = one(engine, vec![Op::Unregister { name: name.into() }]).unwrap().forgotten;
    forgotten.unwrap()
}

fn kept(engine: &Engine) -> u64 {
    engine.index().streams.values().map(|stream| stream.row.messages).sum()
}

fn unclaimed(engine: &Engine) -> u64 {
    engine.index().streams.values().map(|stream| stream.row.losses.unclaimed).sum()
}

/// Runs for so long, with the sweeper at work.
fn run_for(engine: &mut Engine, clock: &ManualClock, time: Duration) {
    let end = clock.read().up_ms + millis(time);
    while let Some(due) = engine.due_in() {
        let left = end.saturating_sub(clock.read().up_ms);
        if millis(due) > left {
            break;
        }
        clock.advance(due.max(Duration::from_millis(1)));
        engine.maintain();
    }
    let left = end.saturating_sub(clock.read().up_ms);
    clock.advance(Duration::from_millis(left));
    engine.maintain();
}

#[test]
fn a_mistyped_route_keeps_its_backlog_and_the_right_one_gets_it() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let id = enlist(&mut engine, uplink("#"));
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    enlist(&mut engine, uplink("mistyped"));
    assert_eq!(engine.index().backlog_of(id), []);
    one(&mut engine, vec![publish()]).unwrap();
    run_for(&mut engine, &clock, 3 * DAY);
    assert_eq!((kept(&engine), unclaimed(&engine)), (2, 1), "only what nobody asked for goes");
    let back = one(&mut engine, vec![Op::Register(uplink("#"))]).unwrap();
    assert_eq!(engine.index().backlog_of(id), [stream]);
    let resumed = Resumed { stream, after: Sequence(2), until: Sequence(3) };
    assert_eq!(back.resumed, [resumed]);
    let ranges = vec![(Sequence(1), Sequence(3))];
    one(&mut engine, vec![Op::Ack { consumer: id, stream, ranges }]).unwrap();
    assert_eq!(kept(&engine), 0);
}

#[test]
fn claims_outlive_a_crash_and_a_restart() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    enlist(&mut first, uplink("#"));
    one(&mut first, vec![publish(), publish()]).unwrap();
    enlist(&mut first, uplink("mistyped"));
    drop(first);
    let mut second = engine(&disk, &clock);
    second.checkpoint();
    drop(second);
    let mut third = engine(&disk, &clock);
    run_for(&mut third, &clock, 3 * DAY);
    assert_eq!(kept(&third), 2);
    let id = enlist(&mut third, uplink("t"));
    assert_eq!(third.index().backlog_of(id).len(), 1);
}

#[test]
fn an_uplink_that_nobody_names_keeps_its_backlog_and_collects_nothing_new() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    enlist(&mut engine, uplink("#"));
    one(&mut engine, vec![publish(), publish()]).unwrap();
    deactivate(&mut engine, "uplink/home", InactiveReason::NotConfigured);
    one(&mut engine, vec![publish(), publish(), publish()]).unwrap();
    run_for(&mut engine, &clock, 30 * DAY);
    assert_eq!((kept(&engine), unclaimed(&engine)), (2, 3));
    assert_eq!(forget(&mut engine, "uplink/home"), Forgotten { deleted: 2, kept: 0 });
    assert_eq!((kept(&engine), unclaimed(&engine)), (0, 5));
}

#[test]
fn a_subscription_that_its_app_drops_collects_for_an_hour_and_is_kept_for_a_week() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    enlist(&mut engine, app());
    one(&mut engine, vec![publish()]).unwrap();
    deactivate(&mut engine, "app/a", InactiveReason::NotSubscribed);
    run_for(&mut engine, &clock, HOUR / 2);
    one(&mut engine, vec![publish()]).unwrap();
    run_for(&mut engine, &clock, HOUR);
    one(&mut engine, vec![publish()]).unwrap();
    run_for(&mut engine, &clock, 6 * DAY);
    assert_eq!((kept(&engine), unclaimed(&engine)), (2, 1));
    run_for(&mut engine, &clock, 2 * DAY);
    assert_eq!((kept(&engine), unclaimed(&engine)), (0, 3));
    assert!(engine.index().consumers.is_empty());
    assert_eq!(engine.due_in(), None, "then it is quiet");
}

#[test]
fn a_subscription_that_is_back_goes_on_where_it_was() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let id = enlist(&mut engine, app());
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    let ranges = vec![(Sequence(1), Sequence(1))];
    one(&mut engine, vec![Op::Ack { consumer: id, stream, ranges }]).unwrap();
    deactivate(&mut engine, "app/a", InactiveReason::NotSubscribed);
    one(&mut engine, vec![publish()]).unwrap();
    run_for(&mut engine, &clock, HOUR / 2);
    assert_eq!(enlist(&mut engine, app()), id);
    assert_eq!(engine.index().backlog_of(id), [stream]);
    run_for(&mut engine, &clock, 30 * DAY);
    assert_eq!(kept(&engine), 2, "an app that is down keeps what waits for it");
}

#[test]
fn time_off_does_not_count_towards_the_end_of_a_backlog() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    enlist(&mut first, app());
    one(&mut first, vec![publish()]).unwrap();
    deactivate(&mut first, "app/a", InactiveReason::NotConfigured);
    let mut wall_ms = 1_800_000_000_000;
    let mut last = first;
    for boot in 0..8 {
        run_for(&mut last, &clock, HOUR);
        drop(last);
        wall_ms += 6 * 24 * 3_600_000;
        clock.reboot(&format!("boot-{}", boot + 2), wall_ms, true);
        last = engine(&disk, &clock);
    }
    run_for(&mut last, &clock, 6 * DAY);
    assert_eq!(kept(&last), 1);
    run_for(&mut last, &clock, 2 * DAY);
    assert_eq!(kept(&last), 0);
}

#[test]
fn forgetting_deletes_what_nobody_else_waits_for_and_counts_it() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    enlist(&mut engine, uplink("#"));
    let other = enlist(&mut engine, app());
    let five = (0..5).map(|_| publish()).collect();
    let stream = one(&mut engine, five).unwrap().published[0].stream;
    let ranges = vec![(Sequence(1), Sequence(2)), (Sequence(4), Sequence(4))];
    one(&mut engine, vec![Op::Ack { consumer: other, stream, ranges }]).unwrap();
    assert_eq!(forget(&mut engine, "uplink/home"), Forgotten { deleted: 3, kept: 2 });
    assert_eq!((kept(&engine), unclaimed(&engine)), (2, 3));
}

#[test]
fn a_consumer_that_skips_goes_on_with_the_next_message() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let id = enlist(&mut engine, uplink("#"));
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    let skipped = one(&mut engine, vec![Op::Skip { name: "uplink/home".into() }]).unwrap();
    assert_eq!(skipped.forgotten, Some(Forgotten { deleted: 2, kept: 0 }));
    assert_eq!((kept(&engine), unclaimed(&engine)), (0, 2));
    one(&mut engine, vec![publish()]).unwrap();
    assert_eq!(engine.index().backlog_of(id), [stream]);
    assert_eq!(engine.reader().cursor(id, stream).unwrap().done, Sequence(2));
}

#[test]
fn a_claim_ends_when_all_that_it_kept_has_expired() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    enlist(&mut engine, uplink("#"));
    let message = NewMessage { ttl_ms: Some(60_000), ..NewMessage::default() };
    let topic = Topic::new("pubsub", "t");
    one(&mut engine, vec![Op::Publish { topic, message }]).unwrap();
    deactivate(&mut engine, "uplink/home", InactiveReason::NotConfigured);
    run_for(&mut engine, &clock, HOUR);
    assert!(engine.index().streams.values().all(|stream| stream.claims.is_empty()));
}

#[test]
fn what_is_full_names_who_holds_the_space() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let limits = StreamLimits { max_messages: 2, ..StreamLimits::default() };
    one(&mut engine, vec![Op::Configure { component: "pubsub".into(), limits }]).unwrap();
    enlist(&mut engine, uplink("#"));
    one(&mut engine, vec![publish(), publish()]).unwrap();
    deactivate(&mut engine, "uplink/home", InactiveReason::NotConfigured);
    let refused = one(&mut engine, vec![publish()]).unwrap_err().to_string();
    assert!(refused.contains("2 messages wait for uplink/home, which is not in use"), "{refused}");
}
