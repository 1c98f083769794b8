//! Counts what a thread allocates while it is watched, and says where.
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Allocations of one watch whose callers are looked up: that takes a while.
const MOST_TRACES: usize = 24;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static TRACES: RefCell<Vec<Backtrace>> = const { RefCell::new(Vec::new()) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does something, and counts what it allocates.
pub fn watch<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let (before, nested) = (COUNT.get(), WATCHED.replace(true));
    let result = act();
    WATCHED.set(nested);
    (result, COUNT.get() - before)
}

/// The callers of what was allocated since the last call, those of ours, each with how often it was seen. The first few only.
pub fn callers() -> BTreeMap<String, usize> {
    let mut callers = BTreeMap::new();
    for trace in TRACES.take() {
        *callers.entry(ours(&trace.to_string())).or_default() += 1;
    }
    callers
}

/// The frames of our crate, innermost first.
fn ours(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().map(str::trim).collect();
    let frames = lines.windows(2).filter(|pair| pair[0].contains("exedra::") && pair[1].starts_with("at "));
    let name = |frame: &str| frame.split_once(": ").map_or(frame, |(_, name)| name).to_owned();
    let place = |at: &str| at.rsplit_once("src/").map_or(at, |(_, place)| place).to_owned();
    frames.map(|pair| format!("    {} ({})\n", name(pair[0]), place(pair[1]))).collect()
}

fn note() {
    if !WATCHED.replace(false) {
        return;
    }
    COUNT.set(COUNT.get() + 1);
    TRACES.with_borrow_mut(|traces| {
        if traces.len() < MOST_TRACES {
            traces.push(Backtrace::force_capture());
        }
    });
    WATCHED.set(true);
}

// SAFETY: every call goes to the system's allocator as it came. What is done beside it allocates, but is not watched itself.
#[allow(unsafe_code, reason = "an allocator cannot be made otherwise")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
