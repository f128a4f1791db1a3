//! Budgets and what exceeds them, on runs made by hand; and launches whose counts are known.

use super::budgets::Budgets;
use softcuda::BufferTraffic;
use zlpr::plan::Regime;

use super::grid::{Capability, Extent, Layout, Mode, PAIRS, Run, Shape, runs};
use super::measure::{Counted, accesses, lab, measure};
use super::{plot, table};

/// Where everything should be seen.
const GRID: Option<Extent> = Some(Extent::Quick);

/// A run within every budget.
fn run() -> Counted {
    Counted {
        capability: Capability(9, 0),
        regime: "staged",
        selected: true,
        kernel: "zlpr_staged_f16_u8",
        pair: "f16+u8".to_owned(),
        mode: Mode::Gradient,
        layout: Layout::Contiguous,
        aligned: true,
        rows: 2,
        cols: 32_768,
        floor: 5.0,
        bytes: 5.0,
        read_again: 0.0,
        reads: 1.0,
        dram: 5.0,
        sectors_per_request: 16.0,
        sectors: 1.0,
        wavefronts: 1.0,
        barriers: 1.0,
        cluster_barriers: 0.0,
        waits: 0.0,
        instructions: 20.0,
        mufu: 4.0,
        divergent: 0.0,
        lanes: 32.0,
        warp_bytes_in_flight: 1024,
    }
}

fn budgets(known: &str) -> Budgets {
    Budgets::parse(&format!(
        r#"
        [[budget]]
        metric = "bytes"
        at_most = 1.01
        where = {{ aligned = true }}
        [[budget]]
        metric = "round_trips"
        at_most = 1.0
        {known}"#
    ))
    .unwrap()
}

const KNOWN: &str = r#"
    [[known]]
    metric = "bytes"
    up_to = 1.7
    where = { regime = ["two_pass"], min_cols = 1000 }
    reason = "reads twice"
"#;

#[test]
fn the_checked_in_file_is_sound() {
    Budgets::read().unwrap();
}

#[test]
fn files_that_say_something_else_are_refused() {
    for wrong in [
        "[[budget]]\nmetric = \"bytes\"",
        "[[budget]]\nmetric = \"byte\"\nat_most = 1.0",
        "[[budget]]\nmetric = \"bytes\"\nat_most = 1.0\nwhere = { colums = 3 }",
        "[[budget]]\nmetric = \"bytes\"\nat_most = 1.0\nwhere = { mode = [\"backward\"] }",
        "budget = []\n[[known]]\nmetric = \"bytes\"\nup_to = 2.0",
    ] {
        assert!(Budgets::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn runs_within_their_budgets_are_right() {
    let budgets = budgets("");
    assert_eq!(budgets.judge(&[run()]).wrong(GRID), [""; 0]);
    // Exactly the budget, and another condition than the budget's.
    let (exact, other) = (Counted { bytes: 5.05, ..run() }, Counted { aligned: false, bytes: 9.0, ..run() });
    assert_eq!(budgets.judge(&[exact, other]).wrong(GRID), [""; 0]);
}

#[test]
fn what_exceeds_is_told_once_with_its_worst_run() {
    let (some, worst) = (Counted { bytes: 5.1, ..run() }, Counted { bytes: 6.0, cols: 40_000, ..run() });
    let other = Counted { regime: "block", bytes: 5.5, ..run() };
    let budgets = budgets("");
    let wrong = budgets.judge(&[some, run(), worst, other]).wrong(GRID);
    assert_eq!(
        wrong,
        [
            "staged: bytes over the floor above 1.01 in 2 runs; worst 1.200: 9.0 f16+u8 2x40000 gradient contiguous (selected)",
            "block: bytes over the floor above 1.01 in 1 runs; worst 1.100: 9.0 f16+u8 2x32768 gradient contiguous (selected)",
        ]
    );
    assert_eq!(budgets.judge(&[Counted { bytes: f64::NAN, ..run() }]).wrong(GRID).len(), 1, "no number");
}

#[test]
fn known_exceedings_are_accepted_where_and_as_far_as_they_are_known() {
    let budgets = budgets(KNOWN);
    let twice = Counted { regime: "two_pass", bytes: 8.0, ..run() };
    let verdict = budgets.judge(&[twice.clone(), run()]);
    assert_eq!(verdict.wrong(GRID), [""; 0]);
    assert!(matches!(&verdict.known()[..], [text] if text.contains("1.600") && text.ends_with("reads twice")));
    for unknown in [
        Counted { bytes: 9.0, ..twice.clone() },
        Counted { cols: 999, ..twice.clone() },
        Counted { regime: "staged", ..twice.clone() },
    ] {
        assert_eq!(budgets.judge(&[twice.clone(), unknown]).wrong(GRID).len(), 1);
    }
}

#[test]
fn what_is_known_and_none_any_more_is_wrong() {
    let budgets = budgets(KNOWN);
    let verdict = budgets.judge(&[Counted { regime: "two_pass", ..run() }]);
    assert!(
        matches!(&verdict.wrong(GRID)[..], [text] if text.contains("reads twice") && text.contains("not seen any more"))
    );
    assert_eq!(verdict.wrong(None), [""; 0], "a part of the grid need not show it");
    let unaligned = Counted { aligned: false, regime: "two_pass", bytes: 8.0, ..run() };
    let verdict = budgets.judge(&[unaligned]);
    assert_eq!(verdict.wrong(GRID).len(), 2, "a budget that no run has, and what is known of it");
}

#[test]
fn each_regime_that_is_known_must_be_seen() {
    let known = KNOWN.replace(r#"["two_pass"]"#, r#"["two_pass", "grid"]"#);
    let budgets = budgets(&known);
    let twice = |regime| Counted { regime, bytes: 8.0, ..run() };
    assert_eq!(budgets.judge(&[twice("two_pass"), twice("grid")]).wrong(GRID), [""; 0]);
    assert_eq!(budgets.judge(&[twice("two_pass"), Counted { regime: "grid", ..run() }]).wrong(GRID).len(), 1);
}

#[test]
fn what_only_the_whole_grid_shows_need_not_be_in_the_quick_one() {
    let budgets = budgets(&format!("{KNOWN} whole_grid_only = true"));
    let verdict = budgets.judge(&[run()]);
    assert_eq!(verdict.wrong(Some(Extent::Quick)), [""; 0]);
    assert_eq!(verdict.wrong(Some(Extent::Whole)).len(), 1);
}

#[test]
fn a_round_trip_is_a_barrier_but_for_the_first_of_a_cluster() {
    let budgets = budgets("");
    let wrong = |barriers, cluster_barriers| {
        budgets.judge(&[Counted { barriers, cluster_barriers, ..run() }]).wrong(GRID).len()
    };
    assert_eq!([wrong(0.0, 0.0), wrong(1.0, 0.0), wrong(0.0, 2.0), wrong(1.0, 1.0)], [0; 4]);
    assert_eq!([wrong(2.0, 0.0), wrong(0.0, 3.0), wrong(1.0, 2.0), wrong(1.5, 0.0)], [1; 4]);
}

#[test]
fn the_summary_has_the_worst_of_each_group() {
    let (a, b) = (Counted { bytes: 5.5, lanes: 20.0, ..run() }, Counted { sectors: 1.5, cols: 100, ..run() });
    let other = Counted { capability: Capability(12, 0), ..run() };
    let text = table::summary(&[a, b, other]);
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("staged")).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0][..9], ["staged", "9.0", "aligned", "2", "32768", "1.100", "0.00", "1.000", "1.500"]);
    assert_eq!(lines[0].last(), Some(&"20.0"));
    assert_eq!(lines[1][..4], ["staged", "12.0", "aligned", "1"]);
}

#[test]
fn the_plot_has_a_line_per_regime_and_a_panel_per_pair() {
    let path = std::env::temp_dir().join(format!("zlpr-counted-{}.svg", std::process::id()));
    let other = Counted { pair: "f32+f32".to_owned(), regime: "warp", cols: 512, ..run() };
    let masked = Counted { regime: "block", mode: Mode::Masked, ..run() };
    plot::draw(&[run(), Counted { cols: 65_536, ..run() }, other, masked], &path).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for (text, there) in [("staged", true), ("warp", true), ("floor", true), ("f32+f32", true), ("block", false)] {
        assert_eq!(svg.contains(text), there, "{text}");
    }
}

/// A workspace, through which blocks wait for each other, is no part of what must move; scores in place are.
#[test]
fn what_blocks_tell_each_other_is_counted_apart() {
    let buffer = |read: u64, unique_bytes: u64, written: u64| {
        let accesses = |bytes: u64, unique_bytes| {
            let text = serde_json::json!({
                "requests": bytes / 4, "sectors": bytes / 4, "sectors_least": bytes / 32, "bytes": bytes,
                "unique_bytes": unique_bytes,
            });
            text.to_string()
        };
        let (read, written) = (accesses(read, unique_bytes), accesses(written, written));
        let text = format!(r#"{{"base": 0, "size": 9000, "read": {read}, "written": {written}}}"#);
        serde_json::from_str::<BufferTraffic>(&text).unwrap()
    };
    let (in_place, labels, loss, workspace) =
        (buffer(4096, 2048, 2048), buffer(1024, 1024, 0), buffer(0, 0, 8), buffer(4000, 32, 64));
    let (asked, inputs, waits) = accesses(&[in_place, labels, loss, workspace], 1024);
    assert_eq!((asked.bytes, asked.sectors_least), (4096 + 2048 + 1024 + 8, 128 + 64 + 32));
    assert_eq!((inputs.bytes, inputs.unique_bytes, waits), (5120, 3072, 1000));
}

/// What the formula moves is known; how often a regime reads is its contract.
#[test]
fn launches_are_counted() {
    let on = Capability(8, 0);
    let lab = lab(on).unwrap();
    lab.context().bind_to_thread().unwrap();
    let counted = |pair, mode, layout, regime| {
        let run = Run { shape: Shape { rows: 4, cols: 2048 }, pair, mode, layout, regime, selected: false };
        measure(&lab, on, &run).unwrap()
    };
    let near = |a: f64, b: f64| (a - b).abs() < 0.02;
    for (pair, bytes) in PAIRS.into_iter().zip([6.0, 5.0, 6.0, 12.0, 9.0]) {
        let once = counted(pair, Mode::Gradient, Layout::Contiguous, Regime::Block);
        assert!(near(once.bytes, bytes) && near(once.floor, bytes) && near(once.dram, bytes), "{once:?}");
        assert_eq!((once.reads, once.read_again, once.barriers, once.cluster_barriers), (1.0, 0.0, 1.0, 0.0));
        assert_eq!(once.waits, 0.0);
        assert!(once.aligned && once.mufu > 1.0 && once.instructions > 10.0 && once.lanes > 20.0, "{once:?}");

        let twice = counted(pair, Mode::Gradient, Layout::Contiguous, Regime::TwoPass);
        let inputs = (pair.0.size() + pair.1.size()) as f64;
        assert!(
            near(twice.bytes, bytes + inputs) && near(twice.read_again, inputs) && near(twice.reads, 2.0),
            "{twice:?}"
        );
        assert!(near(twice.dram, bytes), "the second time from the cache: {twice:?}");

        let forward = counted(pair, Mode::Forward, Layout::Contiguous, Regime::TwoPass);
        assert!(near(forward.bytes, inputs) && near(forward.reads, 1.0), "{forward:?}");
        let masked = counted(pair, Mode::Masked, Layout::Contiguous, Regime::Block);
        assert!(near(masked.bytes, bytes + 1.0) && near(masked.reads, 1.0), "{masked:?}");
        let in_place = counted(pair, Mode::InPlace, Layout::Offset, Regime::Block);
        assert!(near(in_place.bytes, bytes) && !in_place.aligned && in_place.sectors > once.sectors, "{in_place:?}");
    }
}

#[test]
fn the_grid_has_every_regime_at_its_end_and_every_shape_as_planned() {
    let lab = lab(Capability(9, 0)).unwrap();
    for pair in PAIRS {
        let runs = runs(lab.device(), Extent::Whole, pair).unwrap();
        for regime in Regime::ALL {
            let end = regime.max_cols(lab.device(), pair.0, pair.1);
            let forced: Vec<usize> =
                runs.iter().filter(|run| !run.selected && run.regime == regime).map(|run| run.shape.cols).collect();
            assert_eq!(forced.contains(&(end as usize)), end != 0 && end != u64::MAX, "{regime}");
            assert_eq!(forced.is_empty(), end == 0, "{regime}");
        }
        for cols in [54, 220, 13_330, 65_536, 1_048_576, 2_812_281, 255, 256, 257, 262_145] {
            assert!(runs.iter().any(|run| run.selected && run.shape.cols == cols), "{cols}");
        }
        assert!(runs.iter().any(|run| run.layout == Layout::Offset));
    }
}
