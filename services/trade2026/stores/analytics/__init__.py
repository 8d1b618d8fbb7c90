"""Analytics: rows by key for SQL, on ClickHouse: embedded (chdb) or a server, behind one port."""
