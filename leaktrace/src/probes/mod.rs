//! Target and allocators → ProbePlan; pure.
