//! A stack of filters -> one filter that decides the same, by a search instead of a walk.
//!
//! `seccompiler` compares the number of a call with every number it knows, one after the other. The kernel translates and verifies
//! all of that at every installation, and then tries it for each number to learn which calls are always allowed. Measured
//! (x86_64, Linux 6.18): two filters of 1617 and 382 instructions cost 0.83 ms and 32 kB for each service, each
//! supervisor and each `steading exec`; what follows is a tenth of that, and refuses in half the time.
//!
//! The stack is walked through here, once. What it answers without a look at the arguments becomes a return; where it looks,
//! the code from there on is kept, top filter first, an allowance going on to the filter below. Equal neighbours are joined,
//! and a binary search finds the neighbourhood of a number.

use crate::error::{Error, Result};
use crate::sys::seccomp::Instruction;
use crate::sys::syscalls::Arch;
use std::collections::BTreeMap;

// Instructions of filters (linux/bpf_common.h).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// No architecture numbers its calls beyond this.
const MOST: u32 = 4096;

// Offsets in struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

fn odd(what: &str) -> Error {
    Error::failed(format!("the compiled system call filter {what}"))
}

fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// How a program answers a number.
#[derive(Clone, Copy)]
enum Answer {
    Returns(u32),
    /// It loads something else than number and architecture, here.
    Looks(usize),
}

/// How a program answers every number of an architecture.
struct Answers {
    listed: BTreeMap<u32, Answer>,
    others: Answer,
}

/// Where the instruction at `at` goes on, if its condition holds and if not; `None` when it returns.
fn successors(at: usize, instruction: &Instruction) -> Result<Option<(usize, usize)>> {
    let next = |offset: u32| usize::try_from(offset).map(|offset| at + 1 + offset).map_err(|_| odd("jumps too far"));
    Ok(Some(match instruction.code {
        LOAD | AND => (at + 1, at + 1),
        JUMP => (next(instruction.k)?, next(instruction.k)?),
        EQUAL | GREATER | AT_LEAST => (next(instruction.jt.into())?, next(instruction.jf.into())?),
        RETURN => return Ok(None),
        code => return Err(odd(&format!("has an unknown instruction {code:#x}"))),
    }))
}

/// Walks through `program` once, for a call of `audit` whose number is none that it compares with, and turns off for those.
fn answers(program: &[Instruction], audit: u32) -> Result<Answers> {
    let (mut at, mut value) = (0, None);
    let mut turns = BTreeMap::new();
    let others = loop {
        let instruction = program.get(at).ok_or_else(|| odd("has no end"))?;
        let Some((taken, other)) = successors(at, instruction)? else { break Answer::Returns(instruction.k) };
        at = match (instruction.code, instruction.k, value) {
            (LOAD, NUMBER, _) => {
                value = None;
                taken
            }
            (LOAD, ARCH, _) => {
                value = Some(audit);
                taken
            }
            (LOAD, ..) => break Answer::Looks(at),
            (EQUAL, k, None) => {
                turns.entry(k).or_insert(taken);
                other
            }
            (EQUAL, k, Some(value)) => {
                if k == value {
                    taken
                } else {
                    other
                }
            }
            (JUMP, ..) => taken,
            _ => return Err(odd("compares numbers in another way than by equality")),
        };
    };
    let listed = turns.into_iter().map(|(number, at)| Ok((number, follow(program, at)?))).collect::<Result<_>>()?;
    Ok(Answers { listed, others })
}

/// Where a turn ends.
fn follow(program: &[Instruction], mut at: usize) -> Result<Answer> {
    loop {
        let instruction = program.get(at).ok_or_else(|| odd("has no end"))?;
        at = match (instruction.code, successors(at, instruction)?) {
            (_, None) => return Ok(Answer::Returns(instruction.k)),
            (LOAD, _) => return Ok(Answer::Looks(at)),
            (JUMP, Some((next, _))) => next,
            _ => return Err(odd("compares a number twice")),
        };
    }
}

/// The code of `program` that can be reached from `start`, with allowances going on behind its end.
fn tail(program: &[Instruction], start: usize) -> Result<Vec<Instruction>> {
    let (mut todo, mut last) = (vec![start], start);
    let mut seen = vec![false; program.len()];
    while let Some(at) = todo.pop() {
        let instruction = program.get(at).ok_or_else(|| odd("has no end"))?;
        if let Some(seen @ false) = seen.get_mut(at) {
            *seen = true;
            last = last.max(at);
            todo.extend(successors(at, instruction)?.into_iter().flat_map(|(taken, other)| [taken, other]));
        }
    }
    let mut code = program.get(start..=last).unwrap_or_default().to_vec();
    let end = code.len();
    for (at, instruction) in code.iter_mut().enumerate() {
        if (instruction.code, instruction.k) == (RETURN, libc::SECCOMP_RET_ALLOW) {
            *instruction = one(JUMP, 0, 0, length(end - at - 1)?);
        }
    }
    Ok(code)
}

fn length(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| odd("is too long"))
}

/// What the whole stack does with `number`. All actions are to allow or to fail: the topmost refusal counts.
fn decide(stack: &[(&Vec<Instruction>, Answers)], number: u32) -> Result<Vec<Instruction>> {
    let mut code = Vec::new();
    for (program, answers) in stack.iter().rev() {
        match *answers.listed.get(&number).unwrap_or(&answers.others) {
            Answer::Returns(libc::SECCOMP_RET_ALLOW) => {}
            Answer::Returns(action) => {
                code.push(one(RETURN, 0, 0, action));
                return Ok(code);
            }
            Answer::Looks(at) => code.extend(tail(program, at)?),
        }
    }
    code.push(one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    Ok(code)
}

/// The stack, in the order of its installation, as one program.
pub(super) fn condense(stack: &[Vec<Instruction>], arch: Arch) -> Result<Vec<Instruction>> {
    let read = |audit| stack.iter().map(|program| Ok((program, answers(program, audit)?))).collect::<Result<Vec<_>>>();
    // A foreign architecture's answer must not depend on anything.
    let foreign = read(0)?;
    let ([foreign_answer], true) = (&decide(&foreign, 0)?[..], foreign.iter().all(|(_, answers)| answers.listed.is_empty()))
    else {
        return Err(odd("looks at calls of a foreign architecture"));
    };
    let native = read(arch.audit())?;
    let listed = native.iter().filter_map(|(_, answers)| answers.listed.keys().next_back());
    // Numbers beyond the last one listed are all alike.
    let end = listed.max().map_or(0, |last| last.saturating_add(1));
    if end > MOST {
        return Err(odd("has a number that is none"));
    }
    let mut parts: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for number in 0..=end {
        let code = decide(&native, number)?;
        if parts.last().is_none_or(|(_, before)| *before != code) {
            parts.push((number, code));
        }
    }
    let mut program = vec![one(LOAD, 0, 0, ARCH), one(EQUAL, 1, 0, arch.audit()), *foreign_answer, one(LOAD, 0, 0, NUMBER)];
    program.extend(search(&parts)?);
    Ok(program)
}

/// Code that finds the part of a number: the last one that does not begin after it.
fn search(parts: &[(u32, Vec<Instruction>)]) -> Result<Vec<Instruction>> {
    let (low, high) = parts.split_at(parts.len() / 2);
    let (Some((start, _)), false) = (high.first(), low.is_empty()) else {
        return parts.first().map(|(_, code)| code.clone()).ok_or_else(|| odd("decides nothing"));
    };
    let (low, high) = (search(low)?, search(high)?);
    let mut program = match u8::try_from(low.len()) {
        Ok(over) => vec![one(AT_LEAST, over, 0, *start)],
        // A conditional jump has 8 bits.
        Err(_) => vec![one(AT_LEAST, 0, 1, *start), one(JUMP, 0, 0, length(low.len())?)],
    };
    program.extend(low);
    program.extend(high);
    Ok(program)
}
