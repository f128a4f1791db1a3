//! The README says what is in the repository.

const README: &str = include_str!("../README.md");

#[test]
fn its_code_is_the_quickstart_example() {
    let example = include_str!("../examples/quickstart.rs");
    let (_, code) = example.split_once("\n\n").expect("a doc comment, then the code");
    assert!(README.contains(code.trim_end()), "README.md and examples/quickstart.rs differ");
}

#[test]
fn its_table_of_regimes_is_the_plans() {
    use zlpr::DType::{F16, F32};
    use zlpr::plan::{Device, Regime};
    let device = Device { capability: (8, 0), shared_memory_per_block: 163 * 1024, max_grid: i32::MAX as u32 };
    for regime in [Regime::Warp, Regime::Block] {
        let [half, single] = [F16, F32].map(|t| thousands(regime.max_cols(&device, t, t)));
        let row = format!("| `{regime}` | {half} ({single}) |");
        assert!(README.contains(&row), "README.md has no row \"{row}\"");
    }
}

fn thousands(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}
