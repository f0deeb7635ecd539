/// Rows of words, laid out for a terminal.
enum TextTable {
    /// The rows as lines, every column as wide as its longest word.
    static func text(_ rows: [[String]]) -> String {
        var widths: [Int] = []
        for row in rows {
            for (column, word) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], word.count)
            }
        }
        return rows.map { row in
            row.enumerated().map { column, word in
                column == row.count - 1
                    ? word : word + String(repeating: " ", count: widths[column] - word.count)
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}
