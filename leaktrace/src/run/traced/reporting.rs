//! What is said of the latest reading of a traced program: the conditions of the user that hold, and its report.

use super::Traced;
use crate::analysis::{Alerted, Alerts, ChurnOrder, Condition, Order, Verdict};
use crate::cli::{self, TraceArgs};
use crate::compose::{self, GroupBy, Material};
use crate::report::Report;
use crate::snapshot::Snapshot;
use crate::symbolize::{ElfNaming, WithJit};
use crate::target::Process;

impl Traced {
    /// Looks whether the last reading is of what the user wants to hear of, though it be over at the next
    /// report; returns whether that begins with it.
    pub(in crate::run) fn watch_memory(&mut self, args: &TraceArgs) -> bool {
        if args.churn.is_some() {
            self.temporaries.observe(&self.latest);
        }
        let alerts = self.alerts.get_or_insert_with(|| alerts(args));
        alerts.watch(&self.memory)
    }

    fn check_alerts(&mut self, args: &TraceArgs) -> Alerted {
        // To judge every site costs more than to judge those that are listed.
        let wants_leaks = args.alert.contains(&Condition::Leak);
        let leaks: Vec<u64> = match wants_leaks {
            true => self.leaking().map(|site| site.stack.id).collect(),
            false => Vec::new(),
        };
        let alerts = self.alerts.get_or_insert_with(|| alerts(args));
        alerts.check(&self.memory, &leaks)
    }

    /// A report of the latest reading that lists `top` sites (0: all).
    pub(in crate::run) fn report(
        &mut self,
        args: &TraceArgs,
        naming: &mut ElfNaming,
        seq: u64,
        is_final: bool,
        order: Order,
        top: usize,
    ) -> Report {
        let alerts = self.check_alerts(args);
        self.jit.refresh(self.process.as_ref());
        let aged = self.aged.as_ref().map(|aged| Snapshot {
            sites: aged.sites.clone(),
            reserved_bytes: aged.reserved_bytes,
            ..self.latest.clone()
        });
        let material = Material {
            pairs: &self.pairs,
            seq,
            is_final,
            pid: self.pid,
            comm: &self.comm,
            epoch: self.epoch,
            parent_pid: self.parent,
            time: self.read_at,
            snapshot: aged.as_ref().unwrap_or(&self.latest),
            past_code: self.code_seen.past(),
            tracker: &self.tracker,
            alerts: &alerts,
            churn: args.churn.map(|by| (churn_order(by), &self.temporaries)),
            memory: &self.memory,
            owners: self.footprint.owners(),
            group_by: group_by(args.group_by),
            rss_at_start_bytes: self.rss_at_start_bytes,
            mappings_traced: self.mmap,
            unseen: self.unseen,
            begun: self.begun,
            older: args.older,
            older_by_slots: self.aged.as_ref().and_then(|aged| aged.by_slots),
            has_sharers: !self.sharers.is_empty(),
            heap_traced: self.heap_traced(),
            sizes_filtered: args.min_size > 0 || args.max_size.is_some(),
            main_thread_ended: self
                .process
                .as_ref()
                .is_some_and(Process::main_thread_has_ended),
            main_thread_holds_probes: self.main_thread_holds_probes,
            naming_failures: naming.failures(),
        };
        let mut naming = WithJit {
            files: naming,
            jit: &mut self.jit,
        };
        let mut report = compose::report(&material, order, top, &mut naming);
        let mut listed = report.sites.iter();
        self.groups_leak = args.group_by != cli::GroupBy::Stack
            && listed.any(|group| group.verdict == Verdict::Leaking);
        report.notices.extend(self.jit.notices(&self.mappings));
        report.notices.extend(self.sharers.notice());
        report.notices.extend(self.refused());
        let past = self.code_seen.past();
        report.notices.extend(past.notice(&self.latest.sites));
        report
    }
}

impl Traced {
    /// The functions that the kernel would not have probed, and why not the first.
    fn refused(&self) -> Option<String> {
        let refused = self.plan.unprobed.iter();
        let refused = refused.filter(|unprobed| unprobed.refused_by_kernel);
        let functions: Vec<&str> = refused.clone().map(|unprobed| unprobed.function).collect();
        let reason = &refused.clone().next()?.reason;
        Some(format!(
            "what these functions do is not counted: {} ({reason})",
            functions.join(", ")
        ))
    }
}

fn alerts(args: &TraceArgs) -> Alerts {
    Alerts::new(args.alert.clone())
}

const fn churn_order(by: cli::Churn) -> ChurnOrder {
    match by {
        cli::Churn::Rate => ChurnOrder::Rate,
        cli::Churn::Temporary => ChurnOrder::Temporary,
    }
}

const fn group_by(by: cli::GroupBy) -> GroupBy {
    match by {
        cli::GroupBy::Stack => GroupBy::Stack,
        cli::GroupBy::Function => GroupBy::Function,
        cli::GroupBy::Module => GroupBy::Module,
        cli::GroupBy::Line => GroupBy::Line,
    }
}
