//! A pipeline of bulk copies over a cluster, compiled from `ptx/pipeline.cu`, and what is left of
//! it without one of its precautions.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use ptx_support::Device;
use softcuda::Config;
use softcuda::fault::{Fault, FaultKind};

const PIPELINE: &str = include_str!("ptx/pipeline.13.5-sm_90.ptx");

/// The sums that the blocks got of each other, and what each thread had.
fn launch(text: &str, seed: u64) -> Result<(Vec<f32>, Vec<f32>), Fault> {
    let device = Device::with(Config { workers: 1, seed, ..Config::capability(9, 0) });
    let input: Vec<f32> = (0..4 * 4 * 256).map(|i| (i % 97) as f32).collect();
    let (input, sums, rest) = (device.upload(&input), device.upload(&[0f32; 4]), device.upload(&vec![0f32; 4 * 256]));
    device.launch_clusters(text, (4, 2, 256), &[input, sums, rest])?;
    Ok((device.download(sums, 4), device.download(rest, 4 * 256)))
}

#[test]
fn it_sums_under_every_order() {
    let value = |block: usize, tile: usize, thread: usize| ((block * 4 + tile) * 256 + thread) % 97;
    let threads: Vec<f32> =
        (0..4 * 256).map(|at| (0..4).map(|tile| value(at / 256, tile, at % 256)).sum::<usize>() as f32).collect();
    let sums: Vec<f32> = (0..4).map(|block: usize| threads[(block ^ 1) * 256..][..256].iter().sum()).collect();
    for seed in 0..20 {
        assert_eq!(launch(PIPELINE, seed).unwrap(), (sums.clone(), threads.clone()), "seed {seed}");
    }
}

#[test]
fn without_a_precaution_it_is_found_out() {
    for (precaution, kinds) in [
        // The last fence makes the tile visible to the copy that sends it.
        ("fence.proxy.async.shared::cta;", &[FaultKind::MissingFence][..]),
        ("cp.async.bulk.wait_group.read 0;", &[FaultKind::MissingWait]),
        ("cp.async.bulk.commit_group;", &[FaultKind::MissingWait]),
        ("mbarrier.init.shared::cta.b64", &[FaultKind::BadMbarrier]),
        ("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _,", &[FaultKind::Deadlock, FaultKind::MissingWait]),
    ] {
        let last = PIPELINE.rfind(precaution).unwrap();
        let end = last + PIPELINE[last..].find(';').unwrap() + 1;
        let broken = format!("{}{}", &PIPELINE[..last], &PIPELINE[end..]);
        for seed in 0..2 {
            let error = launch(&broken, seed).expect_err(precaution);
            assert!(kinds.contains(&error.kind), "{precaution} {error}");
        }
    }
}
