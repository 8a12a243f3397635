//! Assigns rows to columns at the minimum cost.

/// The cost of each row with each column.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Costs {
    /// Computes the costs by row and column. Pairs whose cost is not finite are forbidden.
    pub(crate) fn new(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Self {
        let values = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(row, column)| cost(row, column));
        Self { rows, columns, values: values.collect() }
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    /// Returns the pairs of row and column with the minimum total cost, sorted by row; as many as the shorter side has.
    pub(crate) fn assign_all(&self) -> Vec<(usize, usize)> {
        let cost = |row, column| Some(self.at(row, column)).filter(|cost| cost.is_finite()).unwrap_or(FORBIDDEN);
        solved(self.rows, self.columns, cost)
    }

    /// Returns pairs of row and column, sorted by row, each cheaper than `limit`. Leaving a row and a column unpaired costs `limit`.
    pub(crate) fn assign_below(&self, limit: f64) -> Vec<(usize, usize)> {
        let gain = |row, column| (self.at(row, column) - limit).min(0.0);
        let mut pairs = solved(self.rows, self.columns, gain);
        pairs.retain(|&(row, column)| self.at(row, column) < limit);
        pairs
    }
}

/// Higher than any sum of costs that occurs here.
const FORBIDDEN: f64 = 1e9;

/// Returns the cheapest pairs of a table of either shape.
fn solved(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
    let mut pairs = if rows <= columns {
        solved_wide(rows, columns, cost)
    } else {
        let turned = solved_wide(columns, rows, |row, column| cost(column, row));
        turned.into_iter().map(|(row, column)| (column, row)).collect()
    };
    pairs.sort_unstable();
    pairs
}

/// The Hungarian method with potentials, one augmenting path per row: `O(rows² · columns)`. Rows may not outnumber columns.
fn solved_wide(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
    // Row and column 0 stand for "none"; the others are counted from 1.
    let (mut row_potential, mut column_potential) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0_usize; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut least = vec![f64::INFINITY; columns + 1];
        let (mut visited, mut came_from) = (vec![false; columns + 1], vec![0_usize; columns + 1]);
        let mut column = 0;
        while row_of[column] != 0 {
            visited[column] = true;
            let (current, mut step, mut next) = (row_of[column], f64::INFINITY, 0);
            for other in 1..=columns {
                if visited[other] {
                    continue;
                }
                let reduced = cost(current - 1, other - 1) - row_potential[current] - column_potential[other];
                if reduced < least[other] {
                    (least[other], came_from[other]) = (reduced, column);
                }
                if least[other] < step {
                    (step, next) = (least[other], other);
                }
            }
            for other in 0..=columns {
                if visited[other] {
                    row_potential[row_of[other]] += step;
                    column_potential[other] -= step;
                } else {
                    least[other] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[came_from[column]];
            column = came_from[column];
        }
    }
    (1..=columns).filter(|&column| row_of[column] != 0).map(|column| (row_of[column] - 1, column - 1)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs(rows: usize, columns: usize, values: &[f64]) -> Costs {
        Costs { rows, columns, values: values[..rows * columns].to_vec() }
    }

    /// The minimum sum over all ways to pair the rows from `row` on; with `alone`, a row may stay unpaired at that cost.
    fn least(costs: &Costs, row: usize, taken: &mut Vec<bool>, alone: Option<f64>) -> f64 {
        if row == costs.rows {
            return 0.0;
        }
        let mut best = alone.map_or(f64::INFINITY, |price| price + least(costs, row + 1, taken, alone));
        for column in 0..costs.columns {
            if !taken[column] {
                taken[column] = true;
                best = best.min(costs.at(row, column) + least(costs, row + 1, taken, alone));
                taken[column] = false;
            }
        }
        best
    }

    fn sum(costs: &Costs, pairs: &[(usize, usize)]) -> f64 {
        pairs.iter().map(|&(row, column)| costs.at(row, column)).sum()
    }

    #[test]
    fn empty_sides_have_no_pairs() {
        assert!(costs(0, 3, &[]).assign_all().is_empty());
        assert!(costs(3, 0, &[]).assign_below(1.0).is_empty());
    }

    #[test]
    fn forbidden_pairs_come_last() {
        let costs = costs(2, 2, &[f64::NAN, 5.0, 1.0, f64::INFINITY]);
        assert_eq!(costs.assign_all(), [(0, 1), (1, 0)]);
        assert_eq!(costs.assign_below(2.0), [(1, 0)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_other_pairing_is_cheaper(
            rows in 1usize..6, columns in 1usize..6, values in proptest::collection::vec(-1.0f64..1.0, 25), limit in -0.5f64..1.0,
        ) {
            let costs = costs(rows, columns, &values);
            let below = costs.assign_below(limit);
            let spent = sum(&costs, &below) + (rows - below.len()) as f64 * limit;
            prop_assert!((spent - least(&costs, 0, &mut vec![false; columns], Some(limit))).abs() < 1e-9);
            prop_assert!(below.iter().all(|&(row, column)| costs.at(row, column) < limit));
            let all = costs.assign_all();
            prop_assert_eq!(all.len(), rows.min(columns));
            if rows <= columns {
                prop_assert!((sum(&costs, &all) - least(&costs, 0, &mut vec![false; columns], None)).abs() < 1e-9);
            }
            let mut taken: Vec<usize> = all.iter().map(|pair| pair.1).collect();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len(), all.len());
        }
    }
}
