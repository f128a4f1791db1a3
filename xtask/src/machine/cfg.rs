//! Basic blocks and loops of a kernel.

use std::collections::BTreeSet;
use std::ops::Range;

use super::sass::{Function, Instruction};

/// A straight run of instructions.
#[derive(Debug)]
pub struct Block {
    /// Indices of its instructions.
    pub range: Range<usize>,
    /// Blocks that may follow. Returns of subroutines have none here: their callers follow the call.
    pub successors: Vec<usize>,
    /// How many loops it is in.
    pub depth: usize,
}

/// How control leaves an instruction.
pub enum Flow<'a> {
    Next,
    Branch(&'a Instruction),
    Call,
    Leave,
}

/// How control leaves this instruction.
pub fn flow(instruction: &Instruction) -> Flow<'_> {
    match instruction.base() {
        "BRA" | "BREAK" if instruction.label().is_some() => Flow::Branch(instruction),
        "CALL" => Flow::Call,
        "EXIT" | "RET" => Flow::Leave,
        _ => Flow::Next,
    }
}

/// Whether it may also fall through: it is guarded, or has a condition among its operands.
fn conditional(instruction: &Instruction) -> bool {
    instruction.guard.is_some() || instruction.operands.len() > 1 || instruction.has("DIV") || instruction.has("CONV")
}

/// The blocks in order of address, with their loop depth.
pub fn blocks(function: &Function) -> Vec<Block> {
    let instructions = &function.instructions;
    let mut leaders: BTreeSet<usize> = function.labels.values().copied().filter(|&i| i < instructions.len()).collect();
    leaders.insert(0);
    for (i, instruction) in instructions.iter().enumerate() {
        if !matches!(flow(instruction), Flow::Next | Flow::Call) && i + 1 < instructions.len() {
            leaders.insert(i + 1);
        }
    }
    let starts: Vec<usize> = leaders.into_iter().collect();
    let block_of = |instruction: usize| starts.partition_point(|&s| s <= instruction) - 1;
    let mut blocks: Vec<Block> = Vec::new();
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(instructions.len());
        let last = &instructions[end - 1];
        let falls_through = match flow(last) {
            Flow::Next | Flow::Call => true,
            Flow::Branch(_) => conditional(last),
            Flow::Leave => last.guard.is_some(),
        };
        let mut successors = Vec::new();
        if let Flow::Branch(branch) = flow(last) {
            successors.extend(function.target(branch).filter(|&t| t < instructions.len()).map(block_of));
        }
        if falls_through && number + 1 < starts.len() && !successors.contains(&(number + 1)) {
            successors.push(number + 1);
        }
        blocks.push(Block { range: start..end, successors, depth: 0 });
    }
    for body in loops(&blocks) {
        for block in body {
            blocks[block].depth += 1;
        }
    }
    blocks
}

/// The natural loops: for each head that an edge leads back to, the blocks that reach that edge without
/// passing the head. An edge leads back if its target dominates its origin.
pub fn loops(blocks: &[Block]) -> Vec<BTreeSet<usize>> {
    let mut predecessors = vec![Vec::new(); blocks.len()];
    for (from, block) in blocks.iter().enumerate() {
        for &to in &block.successors {
            predecessors[to].push(from);
        }
    }
    let dominators = dominators(&predecessors);
    let mut found: Vec<(usize, BTreeSet<usize>)> = Vec::new();
    for (from, block) in blocks.iter().enumerate() {
        for &head in block.successors.iter().filter(|head| dominators[from].contains(head)) {
            let mut body = BTreeSet::from([head]);
            let mut open = vec![from];
            while let Some(next) = open.pop() {
                if body.insert(next) {
                    open.extend(&predecessors[next]);
                }
            }
            // Two ways back to one head are one loop.
            match found.iter_mut().find(|(other, _)| *other == head) {
                Some((_, known)) => known.extend(body),
                None => found.push((head, body)),
            }
        }
    }
    found.into_iter().map(|(_, body)| body).collect()
}

/// Dominators of every block that is reached from the first; of the others, nothing.
fn dominators(predecessors: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let mut sets: Vec<Option<BTreeSet<usize>>> = vec![None; predecessors.len()];
    if let Some(first) = sets.first_mut() {
        *first = Some(BTreeSet::from([0]));
    }
    let mut changed = true;
    while changed {
        changed = false;
        for block in 1..predecessors.len() {
            let known = predecessors[block].iter().filter_map(|&p| sets[p].as_ref());
            let Some(mut common) = known.cloned().reduce(|a, b| &a & &b) else { continue };
            common.insert(block);
            if sets[block].as_ref() != Some(&common) {
                sets[block] = Some(common);
                changed = true;
            }
        }
    }
    sets.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::sass;

    /// A loop in a loop, an early exit, and a cold block behind the last exit that comes back.
    const NESTED: &str = include_str!("../../tests/sass/nested.sass");

    #[test]
    fn blocks_and_nested_loops() {
        let functions = sass::parse(NESTED);
        let blocks = blocks(&functions[0]);
        let shape: Vec<_> = blocks.iter().map(|b| (b.range.clone(), b.successors.clone(), b.depth)).collect();
        assert_eq!(
            shape,
            [
                (0..4, vec![1], 0),      // up to the early exit
                (4..5, vec![2], 0),      // before the outer loop
                (5..6, vec![3], 1),      // head of the outer loop
                (6..9, vec![3, 4], 2),   // the inner loop
                (9..12, vec![2, 5], 1),  // end of the outer loop
                (12..13, vec![7, 6], 0), // to the cold block
                (13..15, vec![], 0),     // exit
                (15..17, vec![6], 0),    // the cold block
            ]
        );
        assert_eq!(loops(&blocks).len(), 2);
    }
}
