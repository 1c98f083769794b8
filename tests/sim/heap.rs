//! What the heap does, for each thread by itself: a simulation runs in one.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static PAUSED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread has allocated and not freed.
pub fn live() -> i64 {
    LIVE.get()
}

/// Allocations of this thread so far, growth of what it has included.
pub fn count() -> u64 {
    COUNT.get()
}

/// Does something that is not counted.
pub fn uncounted<T>(act: impl FnOnce() -> T) -> T {
    let before = PAUSED.replace(true);
    let result = act();
    PAUSED.set(before);
    result
}

fn note(bytes: i64, allocates: bool) {
    LIVE.set(LIVE.get() + bytes);
    if allocates && !PAUSED.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

// SAFETY: every call goes to the system's allocator as it came; only cells without destructors are touched beside it.
#[allow(unsafe_code, reason = "an allocator cannot be made otherwise")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64, true);
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64), false);
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64, true);
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
