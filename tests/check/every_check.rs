//! Each check is made to find something on a real server, by a test that is named here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dbtriage::engine::findings::CHECKS;
use pretty_assertions::assert_eq;

/// The check, and the test in which it finds something.
const LIVE: &[(&str, &str)] = &[
    ("unreachable", "replication::a_promotion_a_restart_and_a_stop_are_told_where_they_happen"),
    ("restart", "replication::a_promotion_a_restart_and_a_stop_are_told_where_they_happen"),
    ("role-change", "replication::a_promotion_a_restart_and_a_stop_are_told_where_they_happen"),
    (
        "connections",
        "connections::connections_near_their_limit_are_told_with_who_holds_most_and_how_many_idle",
    ),
    (
        "connection-hog",
        "connections::an_application_that_holds_most_of_the_connections_is_named_before_they_run_out",
    ),
    (
        "idle-sessions",
        "connections::connections_near_their_limit_are_told_with_who_holds_most_and_how_many_idle",
    ),
    ("blocking", "locks::each_root_of_a_pile_up_is_named_with_how_many_wait_for_it_and_how_long"),
    ("deadlocks", "locks::deadlocks_that_the_server_resolves_are_counted"),
    ("sync-rep-stalled", "locks::commits_that_wait_for_a_standby_that_is_not_there_are_counted"),
    (
        "idle-in-transaction",
        "transactions::who_idles_in_a_transaction_and_who_works_in_an_old_one_are_named_each_with_its_age",
    ),
    (
        "long-transaction",
        "transactions::who_idles_in_a_transaction_and_who_works_in_an_old_one_are_named_each_with_its_age",
    ),
    (
        "statement-regression",
        "statements::statements_that_are_slow_or_have_become_slow_are_named_and_slow_all_executions_down",
    ),
    (
        "slow-active",
        "transactions::sessions_that_run_one_slow_statement_are_told_together_and_one_alone_is_never_critical",
    ),
    (
        "slow-statement",
        "statements::statements_that_are_slow_or_have_become_slow_are_named_and_slow_all_executions_down",
    ),
    (
        "query-latency",
        "statements::statements_that_are_slow_or_have_become_slow_are_named_and_slow_all_executions_down",
    ),
    ("operation-spike", "statements::many_more_transactions_than_usual_and_their_rollbacks_are_counted"),
    ("rollback-ratio", "statements::many_more_transactions_than_usual_and_their_rollbacks_are_counted"),
    ("standby-gone", "replication::a_promotion_a_restart_and_a_stop_are_told_where_they_happen"),
    (
        "replication-lag",
        "replication::a_standby_whose_replay_is_paused_is_told_on_both_servers_in_bytes_and_in_seconds",
    ),
    (
        "slot-retention",
        "replication::a_slot_that_nobody_uses_is_told_by_the_log_that_it_keeps_until_it_has_lost_it",
    ),
    (
        "buffer-hit-rate",
        "resources::what_is_read_past_the_buffer_cache_and_what_is_sorted_on_disk_is_measured",
    ),
    ("temp-files", "resources::what_is_read_past_the_buffer_cache_and_what_is_sorted_on_disk_is_measured"),
    ("checkpoints", "resources::checkpoints_that_somebody_asks_for_are_counted"),
    ("archiver", "resources::an_archive_command_that_fails_is_told_with_the_file_until_it_works_again"),
    ("wraparound", "resources::the_database_with_the_oldest_rows_is_named_with_its_age"),
    ("pending-restart", "resources::settings_that_wait_for_a_restart_are_named"),
    ("redis-memory", "cache::a_full_redis_that_evicts_nothing_is_told_before_and_when_writes_fail"),
    ("redis-hit-rate", "cache::keys_that_are_missed_and_keys_that_are_evicted_are_measured"),
    ("redis-evictions", "cache::keys_that_are_missed_and_keys_that_are_evicted_are_measured"),
    ("redis-clients", "cache::clients_of_redis_near_their_limit_are_counted"),
    (
        "redis-replication",
        "cache::a_replica_of_redis_whose_master_has_stopped_is_told_and_one_that_follows_is_not",
    ),
    ("logins-stuck", "housekeeping::a_login_that_waits_for_a_lock_is_told_by_its_process_id"),
    ("locks-near-limit", "housekeeping::a_lock_table_that_fills_is_told_with_how_much_fits"),
    (
        "replay-conflict",
        "standby::replay_that_waits_for_a_query_is_told_and_then_how_many_queries_it_has_cancelled",
    ),
    (
        "conflicts",
        "standby::replay_that_waits_for_a_query_is_told_and_then_how_many_queries_it_has_cancelled",
    ),
    (
        "xmin-horizon",
        "housekeeping::who_keeps_vacuum_from_dead_rows_is_named_be_it_a_session_a_prepared_transaction_or_a_slot",
    ),
    (
        "slot-lost",
        "replication::a_slot_that_nobody_uses_is_told_by_the_log_that_it_keeps_until_it_has_lost_it",
    ),
    ("slot-inactive", "housekeeping::a_slot_that_nobody_uses_is_told_by_its_time_where_the_server_knows_it"),
    (
        "subscription-errors",
        "standby::a_subscription_whose_changes_cannot_be_applied_is_told_with_how_often_it_failed",
    ),
    ("wal-rate", "housekeeping::much_write_ahead_log_is_measured"),
    (
        "checksum-failures",
        "housekeeping::pages_that_do_not_match_their_checksum_are_told_and_worse_when_more_come",
    ),
    ("dead-tuples", "housekeeping::a_table_of_which_much_is_dead_rows_is_named_until_it_is_vacuumed"),
    (
        "stale-statistics",
        "housekeeping::a_table_that_has_changed_much_since_its_last_analyze_is_named_and_one_that_never_had_any",
    ),
    (
        "invalid-index",
        "housekeeping::indexes_whose_concurrent_build_has_failed_are_named_until_they_are_gone",
    ),
    ("redis-unreachable", "redis_more::a_redis_that_is_silent_and_one_that_is_gone_are_told_apart"),
    ("redis-blocked", "redis_more::a_redis_that_is_silent_and_one_that_is_gone_are_told_apart"),
    ("redis-persistence", "redis_more::a_snapshot_and_a_log_that_cannot_be_written_are_told_until_they_can"),
    ("redis-cluster", "redis_more::a_cluster_that_does_not_serve_every_slot_is_told_until_it_does"),
    ("redis-monitor", "redis_more::who_runs_monitor_is_named_with_the_address_that_ends_it"),
    ("redis-slowlog", "redis_more::a_command_that_everybody_waited_for_is_named_with_its_time"),
    ("pooler", "connections::a_pooler_in_between_is_told"),
];

#[test]
fn every_check_finds_something_on_a_real_server() {
    let checks: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    let live: BTreeSet<&str> = LIVE.iter().map(|(check, _)| *check).collect();
    assert_eq!(live, checks, "a check without a live case, or a case without its check");
    for (check, test) in LIVE {
        let (module, name) = test.split_once("::").unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/check/{module}.rs"));
        let text = fs::read_to_string(&file).unwrap();
        let body = text.split_once(&format!("#[test]\nfn {name}() {{\n")).map(|(_, rest)| rest);
        let body =
            body.and_then(|rest| rest.split_once("\n}\n")).unwrap_or_else(|| panic!("no test {test}")).0;
        let finds =
            [format!("found([\"{check}\""), format!("all_found(\"{check}\""), format!(", \"{check}\"")];
        assert!(finds.iter().any(|words| body.contains(words)), "{test} does not look for {check}");
    }
}
