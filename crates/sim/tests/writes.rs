//! The agent is killed at every single write of the record in a story, before it and after it. Whatever the
//! moment, the story ends as it should.

use sim::world::{Side, World};

/// Deploys, a failed deploy, a replaced one, ways back of each kind, and what they end with.
const STORY: &str = "
service shop instances=2 keep-warm=4s
service mail instances=1 keep-warm=0s readiness=notify
behave shop 1.2.0 ready=5s exits=100ms
behave shop 1.3.0 never-ready
up
wait 20s stable shop 1.0.0
wait 20s stable mail 1.0.0
deploy shop 1.1.0
deploy mail 1.1.0
wait 20s stable shop 1.1.0
wait 20s stable mail 1.1.0
rollback shop
wait 20s stable shop 1.0.0
wait 20s idle shop
deploy shop 1.2.0
wait 20s idle shop
deploy shop 1.3.0
run 1s
deploy shop 1.4.0 replace
wait 20s stable shop 1.4.0
wait 20s idle shop
wait 20s idle mail
wait 20s instances shop 2
rollback shop
wait 20s stable shop 1.0.0
wait 20s idle shop
rollback mail
wait 20s stable mail 1.0.0
wait 20s idle mail
wait 20s instances shop 2
wait 20s instances mail 1
run 5s
";

/// Everything stops in the middle of a bake and of a start, and begins again.
const STOPS: &str = "
service shop instances=2 keep-warm=8s
behave shop 1.2.0 ready=3s
up
wait 20s stable shop 1.0.0
deploy shop 1.1.0
wait 20s stable shop 1.1.0
down drain
wait 30s stopped
up
wait 20s ready shop 2
deploy shop 1.2.0
run 1s
down skip-drain
wait 30s stopped
up
wait 20s stable shop 1.2.0
wait 20s idle shop
wait 20s instances shop 2
run 5s
";

/// Every strategy, every operation, and an edited manifest.
const OPERATIONS: &str = "
service shop instances=2 manner=rolling reload=2s
service mail manner=9000
service jobs instances=1 manner=worker needs=shop
behave shop 1.2.0 ready=200ms exits=300ms
behave mail 1.2.0 never-ready
up
wait 20s stable jobs 1.0.0
wait 20s stable mail 1.0.0
deploy shop 1.1.0
deploy mail 1.1.0
deploy jobs 1.1.0
wait 30s stable shop 1.1.0
wait 30s stable mail 1.1.0
wait 30s stable jobs 1.1.0
wait 30s idle shop
wait 30s idle mail
wait 30s idle jobs
deploy shop 1.2.0
deploy mail 1.2.0
run 5s
wait 60s idle shop
wait 60s idle mail
restart shop
restart mail
restart jobs
wait 60s settled shop
wait 60s settled mail
wait 60s settled jobs
reload shop
wait 30s settled shop
scale shop 3
wait 30s settled shop
stop mail
wait 30s settled mail
service mail manner=9000 argument=--more
service extra instances=1
apply
wait 30s stable extra 1.0.0
start mail
wait 30s settled mail
wait 30s ready mail 1
remove extra
service shop instances=2 manner=rolling reload=2s argument=--more
apply
wait 30s forgotten extra
wait 60s idle shop
wait 30s ready shop 3
run 5s
";

fn end(mut world: World, stable: &[(&str, &str)]) -> Vec<String> {
    world.check_rest();
    let mut broken = world.violations().to_vec();
    let record = world.record().expect("a record");
    for (service, stable) in stable {
        if record.services[*service].stable.as_deref() != Some(*stable) {
            broken.push(format!("{service} ends with {:?}", record.services[*service].stable));
        }
    }
    broken
}

fn kill_at_every_write(story: &str, stable: &[(&str, &str)], stride: usize) {
    let whole = sim::scenario::play(story).expect("the story can be played");
    let writes = whole.writes();
    assert_eq!(end(whole, stable), [] as [String; 0]);
    assert!(writes > 15, "only {writes} writes: the story is too short");
    for side in [Side::Before, Side::After] {
        for write in (1..=writes).step_by(stride) {
            let world = sim::scenario::play_with(story, |world| world.kill_agent_at_write(write, side));
            let world = world.unwrap_or_else(|error| panic!("killed {side:?} write {write}: {error}"));
            let log = world.log().join("\n");
            let broken = end(world, stable);
            assert!(broken.is_empty(), "{log}\nkilled {side:?} write {write}: {broken:#?}");
        }
    }
}

#[test]
fn a_kill_at_any_write_of_rollouts_and_ways_back_changes_nothing_in_the_end() {
    kill_at_every_write(STORY, &[("shop", "1.0.0"), ("mail", "1.0.0")], 1);
}

#[test]
fn a_kill_at_any_write_of_a_stop_and_what_follows_changes_nothing_in_the_end() {
    kill_at_every_write(STOPS, &[("shop", "1.2.0")], 1);
}

#[test]
fn a_kill_at_any_write_of_operations_and_of_an_applied_manifest_changes_nothing_in_the_end() {
    let stable = [("shop", "1.1.0+c2"), ("mail", "1.1.0+c2"), ("jobs", "1.1.0")];
    // Its story is long: where nothing is optimised, every fifth write.
    kill_at_every_write(OPERATIONS, &stable, if cfg!(debug_assertions) { 5 } else { 1 });
}
