//! Device memory: allocation, host copies, addresses.

mod ptx_support;

use ptx_support::{Random, fault_of};
use softcuda::fault::FaultKind;
use softcuda::memory::{BadFree, Memory};

#[test]
fn addresses_are_aligned_apart_and_never_reused() {
    let memory = Memory::new(1 << 30);
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for round in 0..200u64 {
        let size = 1 + round * 37;
        let address = memory.alloc(size).unwrap();
        assert_eq!(address % 512, 0);
        assert_ne!(address % 1024, 0, "nobody may rely on more than 512");
        assert!(address >= 1 << 48, "the host must not be able to map it");
        for &(base, bytes) in &seen {
            assert!(address + size <= base || base + bytes <= address);
        }
        seen.push((address, size));
        if round % 2 == 0 {
            memory.free(address).unwrap();
        }
    }
    let other = Memory::new(1 << 30);
    let address = other.alloc(16).unwrap();
    assert!(memory.range_of(address).is_none(), "two devices share no addresses");
}

#[test]
fn limits_and_use() {
    let memory = Memory::new(1000);
    let first = memory.alloc(600).unwrap();
    assert_eq!(memory.used(), 600);
    let error = memory.alloc(401).unwrap_err();
    assert_eq!((error.requested, error.free, error.limit), (401, 400, 1000));
    let second = memory.alloc(400).unwrap();
    assert_eq!(memory.range_of(second + 399), Some((second, 400)));
    assert_eq!(memory.range_of(second + 400), None);
    memory.free(first).unwrap();
    assert_eq!(memory.used(), 400);
    assert!(memory.alloc(u64::MAX).is_err());
}

#[test]
fn wrong_frees() {
    let memory = Memory::new(1 << 20);
    let address = memory.alloc(64).unwrap();
    assert_eq!(memory.free(address + 8), Err(BadFree::NotTheBase { address: address + 8, base: address }));
    assert_eq!(memory.free(0), Err(BadFree::NotAllocated(0)));
    memory.free(address).unwrap();
    assert_eq!(memory.free(address), Err(BadFree::DoubleFree(address)));
    assert_eq!(memory.free(address + 8), Err(BadFree::NotAllocated(address + 8)));
}

#[test]
fn two_pages_of_forty_gibibytes() {
    let memory = Memory::new(64 << 30);
    let address = memory.alloc(40 << 30).unwrap();
    let far = address + (39 << 30) + 5;
    memory.write(address, b"near").unwrap();
    memory.write(far, b"far").unwrap();
    let mut bytes = [0; 3];
    memory.read(far, &mut bytes).unwrap();
    assert_eq!(&bytes, b"far");
    memory.read(far + 1000, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 3]);
    memory.free(address).unwrap();
}

#[test]
fn host_operations_are_checked() {
    let memory = Memory::new(1 << 20);
    let address = memory.alloc(64).unwrap();
    let mut bytes = [0; 8];
    let error = fault_of(memory.read(address + 60, &mut bytes), FaultKind::OutOfBounds);
    assert!(error.detail.contains("host read of 8 bytes"), "{error}");
    fault_of(memory.write(address - 1, &[0]), FaultKind::OutOfBounds);
    fault_of(memory.fill(address, &[1, 2, 3, 4], 17), FaultKind::OutOfBounds);
    fault_of(memory.fill(address, &[1], u64::MAX), FaultKind::OutOfBounds);
    fault_of(memory.copy(address, address + 32, 33), FaultKind::OutOfBounds);
    memory.free(address).unwrap();
    fault_of(memory.read(address, &mut bytes), FaultKind::UseAfterFree);
    // Nothing is asked for, nothing is wrong.
    memory.read(1, &mut []).unwrap();
    memory.write(1, &[]).unwrap();
    memory.fill(1, &[0], 0).unwrap();
    memory.copy(1, 2, 0).unwrap();
}

#[test]
fn any_alignment_and_overlap() {
    let memory = Memory::new(1 << 24);
    let size = 200_000;
    let address = memory.alloc(size as u64).unwrap();
    let mut model: Vec<u8> = (0..size).map(|i| (i * 31) as u8).collect();
    memory.write(address, &model).unwrap();
    let mut rng = Random(8);
    for round in 0..60 {
        let count = 1 + rng.below(if round % 5 == 0 { 150_000 } else { 100 });
        let (from, to) = (rng.below(size - count), rng.below(size - count));
        let (source, target) = (address + from as u64, address + to as u64);
        match round % 3 {
            0 => {
                model.copy_within(from..from + count, to);
                memory.copy(source, target, count as u64).unwrap();
            }
            1 => {
                let value = rng.next() as u8;
                model[to..to + count].fill(value);
                memory.fill(target, &[value], count as u64).unwrap();
            }
            _ => {
                let pattern = (rng.next() as u32).to_le_bytes();
                for (index, byte) in model[to..to + count / 4 * 4].iter_mut().enumerate() {
                    *byte = pattern[index % 4];
                }
                memory.fill(target, &pattern, count as u64 / 4).unwrap();
            }
        }
        let mut bytes = vec![0; count];
        memory.read(target, &mut bytes).unwrap();
        assert_eq!(bytes, model[to..to + count], "round {round}");
    }
    let mut all = vec![0; size];
    memory.read(address, &mut all).unwrap();
    assert_eq!(all, model);
}
