-- The points ledger: a database of its own, which knows nothing of orders but their numbers.
-- The constraints hold whatever a caller does: a balance never falls below zero, never holds
-- points that were not granted, and each step of an order's payment happens once.
--
-- Conventions: points are integers; numbers are bigint here and decimal strings outside; text
-- compares bytewise (COLLATE "C": cheaper, and the same everywhere).

-- One row a user. balance is what the ledger entries add up to; frozen is the part of it that
-- open holds have set aside, so balance - frozen is free to spend. granted is what the user was
-- ever given: refunds only put back what was taken, so no balance can exceed it.
CREATE TABLE accounts (
    balance    bigint NOT NULL,
    frozen     bigint NOT NULL DEFAULT 0,
    granted    bigint NOT NULL,
    sequence   bigint NOT NULL, -- of the newest entry
    created_at timestamptz NOT NULL DEFAULT now(),
    user_id    text NOT NULL COLLATE "C",
    CONSTRAINT accounts_pkey PRIMARY KEY (user_id),
    CONSTRAINT accounts_balance CHECK (balance >= 0),
    CONSTRAINT accounts_frozen CHECK (frozen >= 0 AND frozen <= balance),
    -- 10^15: the sum over thousands of full accounts still fits into 63 bits.
    CONSTRAINT accounts_granted CHECK (granted BETWEEN balance AND 1000000000000000),
    CONSTRAINT accounts_user_length CHECK (length(user_id) BETWEEN 1 AND 64)
) WITH (fillfactor = 80); -- room for the new version of a row on its own page

-- One row for each step of an order's payment that has happened or must never happen. A step
-- begins by inserting its fence and does nothing if it is there. A cancel that finds no try
-- inserts both its own fence and that of the try, so a late try is refused.
CREATE TABLE fences (
    order_no   bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    step       text NOT NULL COLLATE "C",
    CONSTRAINT fences_pkey PRIMARY KEY (order_no, step),
    CONSTRAINT fences_order_no CHECK (order_no > 0),
    CONSTRAINT fences_step CHECK (step IN ('try', 'confirm', 'cancel'))
);

-- One row an order that froze points. Each edge between states is one conditional UPDATE;
-- confirm and cancel both start at 'held', so one of them wins.
CREATE TABLE holds (
    order_no   bigint NOT NULL,
    points     bigint NOT NULL,
    trade_no   bigint NOT NULL, -- of the debit that a confirm writes
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    state      text NOT NULL COLLATE "C",
    user_id    text NOT NULL COLLATE "C" REFERENCES accounts (user_id),
    CONSTRAINT holds_pkey PRIMARY KEY (order_no),
    CONSTRAINT holds_trade_no_unique UNIQUE (trade_no),
    CONSTRAINT holds_points CHECK (points BETWEEN 1 AND 1000000000000),
    CONSTRAINT holds_trade_no CHECK (trade_no > 0),
    CONSTRAINT holds_state CHECK (state IN ('held', 'confirmed', 'cancelled', 'refunded'))
);

-- Every movement of points, in the order of the account: sequence counts 1, 2, 3 … without a
-- gap, because it is drawn under the lock of the account's row.
CREATE TABLE entries (
    sequence   bigint NOT NULL,
    points     bigint NOT NULL, -- added to the balance; negative for a debit
    balance    bigint NOT NULL, -- after this entry
    trade_no   bigint NOT NULL,
    order_no   bigint,
    -- Not now(), which is the start of a transaction that may have waited for the account.
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    type       text NOT NULL COLLATE "C",
    user_id    text NOT NULL COLLATE "C" REFERENCES accounts (user_id),
    ref        text COLLATE "C", -- who asked: the reference of a grant, the number of a refund
    CONSTRAINT entries_pkey PRIMARY KEY (user_id, sequence),
    CONSTRAINT entries_trade_no_unique UNIQUE (trade_no),
    -- One debit an order and one refund: each debit has at most one credit.
    CONSTRAINT entries_order_once UNIQUE (order_no, type),
    CONSTRAINT entries_ref_once UNIQUE (type, ref),
    CONSTRAINT entries_balance CHECK (balance >= 0),
    CONSTRAINT entries_points CHECK (abs(points) BETWEEN 1 AND 1000000000000),
    CONSTRAINT entries_trade_no CHECK (trade_no > 0),
    CONSTRAINT entries_type CHECK (CASE type
        WHEN 'grant' THEN points > 0 AND order_no IS NULL AND ref IS NOT NULL
        WHEN 'debit' THEN points < 0 AND order_no IS NOT NULL AND ref IS NULL
        WHEN 'refund' THEN points > 0 AND order_no IS NOT NULL AND ref IS NOT NULL
        ELSE false END)
);

-- What has happened is corrected by a further entry, never by changing this one.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fences_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fences
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
