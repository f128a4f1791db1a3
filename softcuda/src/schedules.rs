//! A test in many orders.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Reproduces one order.
const SEED: &str = "SOFTCUDA_SEED";

/// Runs a test with the seeds from 0 to `count - 1`, which it puts into
/// [`Config::seed`](crate::Config::seed). When one fails its seed is printed; with that seed in the
/// environment variable `SOFTCUDA_SEED` no other is run.
///
/// ```
/// softcuda::schedules(4, |seed| {
///     let gpu = softcuda::virtual_gpu(softcuda::Config { seed, ..Default::default() }).unwrap();
///     // ... a kernel, and what must be true of its result in any order.
/// #   drop(gpu);
/// });
/// ```
///
/// # Panics
/// As the test does, or if `SOFTCUDA_SEED` is not a number.
pub fn schedules(count: u64, test: impl Fn(u64)) {
    let only = std::env::var(SEED).ok().filter(|seed| !seed.is_empty());
    let seeds = match only.as_deref().map(str::parse) {
        None => 0..count,
        Some(Ok(seed)) => seed..seed + 1,
        Some(Err(_)) => panic!("{SEED} is {only:?}: it must be a number"),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("softcuda: failed with seed {seed}; {SEED}={seed} runs this order alone");
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn all_seeds_until_one_fails() {
        let seen = RefCell::new(Vec::new());
        super::schedules(3, |seed| seen.borrow_mut().push(seed));
        assert_eq!(seen.take(), [0, 1, 2]);
        let failing = |seed| {
            seen.borrow_mut().push(seed);
            assert!(seed < 1);
        };
        assert!(catch_unwind(AssertUnwindSafe(|| super::schedules(3, failing))).is_err());
        assert_eq!(seen.take(), [0, 1]);
    }
}
