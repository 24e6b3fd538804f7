//! Typed access to a report line of leaktrace. Computes sums, and judges nothing.

use serde_json::Value;

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes, as the program asked for them.
    pub bytes: u64,
    /// Blocks.
    pub count: u64,
}

/// A report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

/// A site of a report.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a>(pub &'a Value);

/// A frame of a site.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(pub &'a Value);

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("{path} is missing or no whole number in {value}"))
}

impl Report {
    /// Whether this is the last report of its session.
    pub fn is_final(&self) -> bool {
        self.0["final"].as_bool().expect("`final` of a report")
    }

    /// A heap total, such as `live_bytes`.
    pub fn total(&self, name: &str) -> u64 {
        number(&self.0["totals"], &format!("/{name}"))
    }

    /// All that is live in the heap, but for what libraries hold that come along with some allocators, from
    /// their start on.
    pub fn held_by_program(&self) -> Held {
        let mut held = Held {
            bytes: self.total("live_bytes"),
            count: self.total("live_count"),
        };
        let comes_along = |frame: &Frame| {
            let module = frame.module().unwrap_or_default();
            module.contains("libstdc++") || module.contains("malloc.so")
        };
        for site in self.sites("heap") {
            if site.frames().iter().any(comes_along) {
                held.bytes -= site.held().bytes;
                held.count -= site.held().count;
            }
        }
        held
    }

    /// Bytes still mapped by the program itself.
    pub fn mapped_bytes(&self) -> u64 {
        number(&self.0, "/mapped/live_bytes")
    }

    /// How often something was lost for this reason.
    pub fn loss(&self, reason: &str) -> u64 {
        number(&self.0["losses"], &format!("/{reason}"))
    }

    /// Every loss that happened.
    pub fn losses(&self) -> Vec<(&str, u64)> {
        let losses = self.0["losses"].as_object().expect("`losses` of a report");
        losses
            .iter()
            .map(|(reason, count)| (reason.as_str(), count.as_u64().expect("a count of losses")))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Every loss that makes numbers short. A stack that could not be followed to its end is none: its bytes
    /// are in the numbers.
    pub fn lost_from_numbers(&self) -> Vec<(&str, u64)> {
        let mut losses = self.losses();
        losses.retain(|(reason, _)| *reason != "stack_truncated");
        losses
    }

    /// Sites of one source, `heap` or `mmap`.
    pub fn sites<'a>(&'a self, source: &'a str) -> impl Iterator<Item = Site<'a>> {
        let sites = self.0["sites"].as_array().expect("`sites` of a report");
        sites
            .iter()
            .filter(move |site| site["source"] == source)
            .map(Site)
    }

    /// Sum over the sites whose direct caller has this name.
    pub fn held_by(&self, source: &str, caller: &str) -> Held {
        let mut sum = Held::default();
        for site in self.sites(source).filter(|site| site.is_called_by(caller)) {
            sum.bytes += site.held().bytes;
            sum.count += site.held().count;
        }
        sum
    }
}

impl<'a> Site<'a> {
    /// What is live here.
    pub fn held(&self) -> Held {
        Held {
            bytes: number(self.0, "/live_bytes"),
            count: number(self.0, "/live_count"),
        }
    }

    /// Blocks that were allocated here since the start.
    pub fn allocated_count(&self) -> u64 {
        number(self.0, "/allocated_count")
    }

    /// Its frames, the caller of the allocation function first.
    pub fn frames(&self) -> Vec<Frame<'a>> {
        let frames = self.0["frames"].as_array().expect("`frames` of a site");
        frames.iter().map(Frame).collect()
    }

    /// Whether its first frame is the function of this name. Libraries define some functions under
    /// several names that differ in leading underscores, and a name of C++ may or may not carry
    /// its parameters.
    pub fn is_called_by(&self, caller: &str) -> bool {
        self.frames()
            .first()
            .and_then(Frame::function)
            .is_some_and(|function| essence(function) == essence(caller))
    }
}

fn essence(function: &str) -> &str {
    let name = function.trim_start_matches('_');
    name.split_once('(').map_or(name, |(name, _)| name)
}

impl<'a> Frame<'a> {
    /// Name of the function, if it is known.
    pub fn function(&self) -> Option<&'a str> {
        self.0["function"].as_str()
    }

    /// Path of the object, if it is known.
    pub fn module(&self) -> Option<&'a str> {
        self.0["module"].as_str()
    }

    /// Address in the process.
    pub fn address(&self) -> u64 {
        self.hex("address").expect("`address` of a frame")
    }

    /// Bytes behind the start of the function, or of the module.
    pub fn offset(&self) -> Option<u64> {
        self.hex("offset")
    }

    /// Line in the source, if it is known.
    pub fn line(&self) -> Option<u64> {
        self.0["line"].as_u64()
    }

    /// Last part of the source file's path, if it is known.
    pub fn file_name(&self) -> Option<&'a str> {
        self.0["file"]
            .as_str()
            .and_then(|file| file.rsplit('/').next())
    }

    /// Whether the compiler inlined this function into the next frame's.
    pub fn is_inlined(&self) -> bool {
        self.0["inlined"].as_bool().expect("`inlined` of a frame")
    }

    fn hex(&self, key: &str) -> Option<u64> {
        let text = self.0.get(key)?.as_str()?;
        u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    }
}
