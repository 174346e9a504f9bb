//! Functions of several variables with a few values each, as reduced ordered decision diagrams: two functions are the
//! same exactly if they are the same node.
//!
//! The values of a variable are the classes of [`super::product`]. A node sends each class of its variable to a node
//! further down; classes that go the same way share an edge.

use super::{Budget, Undecided};

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Function(u32);

/// False everywhere.
pub(super) const NONE: Function = Function(0);
/// True everywhere.
pub(super) const ALL: Function = Function(1);

/// A set of classes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Set(Box<[u64]>);

impl Set {
    pub(super) fn of(size: usize, members: impl Iterator<Item = usize>) -> Self {
        let mut words = vec![0u64; size.div_ceil(64)];
        for member in members {
            if let Some(word) = words.get_mut(member / 64) {
                *word |= 1 << (member % 64);
            }
        }
        Self(words.into())
    }

    #[cfg(test)]
    fn has(&self, member: usize) -> bool {
        self.members().any(|held| held == member)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    fn first(&self) -> usize {
        self.members().next().unwrap_or(usize::MAX)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    level: u32,
    /// Disjoint, together everything, each to another node, in the order of their first members.
    edges: Box<[(Set, Function)]>,
}

/// The nodes of all functions of one set of variables.
#[derive(Debug)]
pub(super) struct Diagram {
    /// How many classes each variable has.
    sizes: Vec<usize>,
    nodes: Vec<Node>,
    numbers: Map<Node, Function>,
    answers: Map<(Operation, Function, Function), Function>,
}

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    And,
    Or,
    Differs,
}

impl Diagram {
    pub(super) fn new(sizes: Vec<usize>) -> Self {
        Self { sizes, nodes: Vec::new(), numbers: Map::default(), answers: Map::default() }
    }

    /// The variable of a level has one of these classes.
    pub(super) fn one_of(&mut self, level: usize, classes: &Set) -> Function {
        let size = self.sizes.get(level).copied().unwrap_or_default();
        let all = Set::of(size, 0..size);
        let others = all.minus(classes);
        let mut edges = Vec::new();
        if !classes.is_empty() {
            edges.push((classes.clone(), ALL));
        }
        if !others.is_empty() {
            edges.push((others, NONE));
        }
        self.node(level, edges)
    }

    pub(super) fn and(&mut self, a: Function, b: Function, budget: &mut Budget) -> Result<Function, Undecided> {
        self.apply(Operation::And, a, b, budget)
    }

    pub(super) fn or(&mut self, a: Function, b: Function, budget: &mut Budget) -> Result<Function, Undecided> {
        self.apply(Operation::Or, a, b, budget)
    }

    pub(super) fn not(&mut self, a: Function, budget: &mut Budget) -> Result<Function, Undecided> {
        self.apply(Operation::Differs, a, ALL, budget)
    }

    /// `then` where `condition` holds, else `other`.
    pub(super) fn choose(
        &mut self,
        condition: Function,
        then: Function,
        other: Function,
        budget: &mut Budget,
    ) -> Result<Function, Undecided> {
        let not = self.not(condition, budget)?;
        let then = self.and(condition, then, budget)?;
        let other = self.and(not, other, budget)?;
        self.or(then, other, budget)
    }

    /// Disjunction of many: halves first, so that small ones meet small ones.
    pub(super) fn any(&mut self, mut all: Vec<Function>, budget: &mut Budget) -> Result<Function, Undecided> {
        self.fold(Operation::Or, &mut all, NONE, budget)
    }

    /// Conjunction of many.
    pub(super) fn every(&mut self, mut all: Vec<Function>, budget: &mut Budget) -> Result<Function, Undecided> {
        self.fold(Operation::And, &mut all, ALL, budget)
    }

    fn fold(
        &mut self,
        operation: Operation,
        all: &mut Vec<Function>,
        empty: Function,
        budget: &mut Budget,
    ) -> Result<Function, Undecided> {
        while all.len() > 1 {
            let mut next = Vec::with_capacity(all.len().div_ceil(2));
            for pair in all.chunks(2) {
                next.push(match pair {
                    [a, b] => self.apply(operation, *a, *b, budget)?,
                    [only] => *only,
                    _ => empty,
                });
            }
            *all = next;
        }
        Ok(all.first().copied().unwrap_or(empty))
    }

    /// Disjoint boxes that together are the function: for each level that matters the classes it may have.
    ///
    /// # Errors
    /// There are more than the budget allows.
    pub(super) fn boxes(&self, of: Function, budget: &mut Budget) -> Result<Vec<Vec<(usize, Set)>>, Undecided> {
        let mut found = Vec::new();
        self.collect(of, &mut Vec::new(), &mut found, budget)?;
        Ok(found)
    }

    /// The first classes, by level, on a way to true. `None` of the function that is nowhere true.
    pub(super) fn example(&self, of: Function) -> Option<std::collections::BTreeMap<usize, usize>> {
        let mut example = std::collections::BTreeMap::new();
        let mut at = of;
        while let Some(node) = self.held(at) {
            let (classes, next) = node.edges.iter().find(|(_, next)| *next != NONE)?;
            example.insert(node.level as usize, classes.first());
            at = *next;
        }
        (at == ALL).then_some(example)
    }

    fn collect(
        &self,
        of: Function,
        way: &mut Vec<(usize, Set)>,
        found: &mut Vec<Vec<(usize, Set)>>,
        budget: &mut Budget,
    ) -> Result<(), Undecided> {
        if of == NONE {
            return Ok(());
        }
        budget.spend(1)?;
        let Some(node) = self.held(of) else {
            found.push(way.clone());
            return Ok(());
        };
        for (classes, next) in &node.edges {
            way.push((node.level as usize, classes.clone()));
            self.collect(*next, way, found, budget)?;
            way.pop();
        }
        Ok(())
    }

    fn held(&self, function: Function) -> Option<&Node> {
        self.nodes.get((function.0 as usize).checked_sub(2)?)
    }

    fn apply(
        &mut self,
        operation: Operation,
        a: Function,
        b: Function,
        budget: &mut Budget,
    ) -> Result<Function, Undecided> {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let known = match operation {
            Operation::And if a == NONE || a == b => Some(a),
            Operation::And if a == ALL => Some(b),
            Operation::Or if a == NONE || a == b => Some(b),
            Operation::Or if a == ALL => Some(ALL),
            Operation::Differs if a == b => Some(NONE),
            Operation::Differs if a == NONE => Some(b),
            _ => self.answers.get(&(operation, a, b)).copied(),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let level_of = |function| self.held(function).map_or(u32::MAX, |node| node.level);
        let level = level_of(a).min(level_of(b));
        let edges_of = |function: Function| match self.held(function) {
            Some(node) if node.level == level => node.edges.to_vec(),
            _ => Vec::new(),
        };
        let (left, right) = (edges_of(a), edges_of(b));
        let mut ways: Vec<(Set, Function)> = Vec::new();
        if left.is_empty() || right.is_empty() {
            let (edges, other) = if left.is_empty() { (right, a) } else { (left, b) };
            for (classes, next) in edges {
                budget.spend(1)?;
                ways.push((classes, self.apply(operation, next, other, budget)?));
            }
        } else {
            for (one, to) in &left {
                for (other, also) in &right {
                    budget.spend(1)?;
                    let both = one.and(other);
                    if !both.is_empty() {
                        ways.push((both, self.apply(operation, *to, *also, budget)?));
                    }
                }
            }
        }
        let answer = self.node(level as usize, ways);
        self.answers.insert((operation, a, b), answer);
        Ok(answer)
    }

    fn node(&mut self, level: usize, ways: Vec<(Set, Function)>) -> Function {
        let mut places: Map<Function, usize> = Map::default();
        let mut edges: Vec<(Set, Function)> = Vec::new();
        for (classes, next) in ways {
            match places.get(&next).and_then(|at| edges.get_mut(*at)) {
                Some((held, _)) => *held = held.or(&classes),
                None => {
                    places.insert(next, edges.len());
                    edges.push((classes, next));
                }
            }
        }
        if let [(_, only)] = edges.as_slice() {
            return *only;
        }
        edges.sort_by_key(|(classes, _)| classes.first());
        let node = Node { level: u32::try_from(level).unwrap_or(u32::MAX), edges: edges.into() };
        if let Some(held) = self.numbers.get(&node) {
            return *held;
        }
        let number = Function(u32::try_from(self.nodes.len() + 2).unwrap_or(u32::MAX));
        self.nodes.push(node.clone());
        self.numbers.insert(node, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All functions of a few operations over two variables of three classes, beside their tables.
    #[test]
    fn the_same_function_is_the_same_node() {
        let mut budget = Budget::new(1_000_000);
        let mut diagram = Diagram::new(vec![3, 3]);
        let points: Vec<(usize, usize)> = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect();
        let mut held: Vec<(Function, Vec<bool>)> = Vec::new();
        for level in 0..2 {
            for mask in 0..8_usize {
                let classes = Set::of(3, (0..3).filter(|class| mask >> class & 1 == 1));
                let function = diagram.one_of(level, &classes);
                let table = points.iter().map(|(a, b)| classes.has(if level == 0 { *a } else { *b })).collect();
                held.push((function, table));
            }
        }
        let simple = held.clone();
        for (f, one) in simple.clone() {
            for (g, other) in simple.clone() {
                let pairs = || one.iter().zip(&other);
                held.push((diagram.and(f, g, &mut budget).unwrap(), pairs().map(|(a, b)| *a && *b).collect()));
                held.push((diagram.or(f, g, &mut budget).unwrap(), pairs().map(|(a, b)| *a || *b).collect()));
            }
            held.push((diagram.not(f, &mut budget).unwrap(), one.iter().map(|a| !a).collect()));
        }
        let mut of_table = std::collections::BTreeMap::new();
        for (function, table) in held {
            assert_eq!(*of_table.entry(table.clone()).or_insert(function), function, "{table:?}");
            let mut covered = vec![0; points.len()];
            for one in diagram.boxes(function, &mut budget).unwrap() {
                for (at, (a, b)) in points.iter().enumerate() {
                    let inside = one.iter().all(|(level, set)| set.has(if *level == 0 { *a } else { *b }));
                    covered[at] += usize::from(inside);
                }
            }
            assert_eq!(covered, table.iter().map(|held| usize::from(*held)).collect::<Vec<_>>());
        }
    }
}
