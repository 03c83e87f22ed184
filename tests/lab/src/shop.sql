CREATE TABLE customers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    country text NOT NULL
);
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    status text NOT NULL,
    total_cents bigint NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE reports (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    report_type text NOT NULL,
    status text NOT NULL,
    payload text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE sessions (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    data text NOT NULL,
    seen_at timestamptz NOT NULL
);

-- Payloads over 500 bytes stand for those in object storage: hashing one waits, and costs no CPU.
CREATE FUNCTION payload_hash(payload text) RETURNS text LANGUAGE plpgsql VOLATILE COST 200 AS $$
BEGIN
    IF length(payload) > 500 THEN
        PERFORM pg_sleep(0.1);
    END IF;
    RETURN md5(payload);
END
$$;

INSERT INTO customers
SELECT id, 'Customer ' || id, (ARRAY['DE', 'FR', 'IT', 'ES', 'NL'])[1 + id % 5]
FROM generate_series(1, 5000) AS id;
INSERT INTO orders
SELECT id, 1 + id % 5000, (ARRAY['new', 'paid', 'shipped'])[1 + id % 3], 100 + id * 37 % 90000,
       timestamptz '2026-01-01' + id * interval '1 minute'
FROM generate_series(1, 20000) AS id;
INSERT INTO reports
SELECT id, 1 + id % 5000, (ARRAY['daily', 'weekly', 'monthly', 'export'])[1 + id % 4], 'done',
       repeat(md5(id::text), CASE WHEN id % 4 = 3 THEN 20 ELSE 1 END),
       timestamptz '2026-01-01' + id * interval '1 minute'
FROM generate_series(1, 20000) AS id;
INSERT INTO sessions
SELECT id, 1 + id % 5000, md5(id::text), timestamptz '2026-01-01' + id * interval '1 minute'
FROM generate_series(1, 10000) AS id;
