-- The ledger of record. Redis decides, PostgreSQL promises: an order exists for good once a
-- transaction here has committed, and the constraints below hold even when a Redis that lost
-- its memory decides wrongly. `flashsale migrate` applies this file to an empty database.
--
-- Conventions: money is an integer of fen; ids are bigint here and decimal strings outside;
-- text that comes from users compares bytewise (COLLATE "C": cheaper, and the same everywhere).

CREATE TABLE products (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT products_name_unique UNIQUE (name),
    CONSTRAINT products_name_length CHECK (length(name) BETWEEN 1 AND 200)
);

CREATE TABLE sales (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    opens_at   timestamptz NOT NULL,
    closes_at  timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    hide_left  boolean NOT NULL DEFAULT false, -- shoppers are not told how much is left
    names      jsonb, -- by language
    CONSTRAINT sales_name_length CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT sales_window CHECK (opens_at < closes_at),
    CONSTRAINT sales_names_object CHECK (jsonb_typeof(names) = 'object')
);

CREATE INDEX sales_by_closing ON sales (closes_at); -- what is open or about to open

-- An item's row is its stock account. total is what is offered, stock what no live order
-- holds; the worker takes units with one guarded UPDATE an item and batch.
CREATE TABLE items (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sale_id       bigint NOT NULL REFERENCES sales (id),
    product_id    bigint NOT NULL REFERENCES products (id),
    opens_at      timestamptz NOT NULL,
    closes_at     timestamptz NOT NULL,
    price_fen     bigint NOT NULL,
    points_price  bigint NOT NULL DEFAULT 0, -- 0: not payable with points
    total         bigint NOT NULL,
    stock         bigint NOT NULL,
    "limit"       integer NOT NULL DEFAULT 1, -- units that one user may hold
    pay_timeout   interval NOT NULL DEFAULT '15 minutes',
    paused        boolean NOT NULL DEFAULT false,
    -- How often the item was loaded into Redis: 0 never, 1 preheated, more: rebuilt.
    generation    bigint NOT NULL DEFAULT 0,
    -- The highest sequence that a stream entry of this generation has shown us. A Redis whose own
    -- sequence is lower has lost writes, and the item must be rebuilt.
    sequence      bigint NOT NULL DEFAULT 0,
    -- Two orders have one sequence of this generation: Redis was rolled back, and the item must be
    -- rebuilt.
    rolled_back   boolean NOT NULL DEFAULT false,
    -- When the item left Redis for good, long after its close. Nothing is owed to Redis any more.
    retired_at    timestamptz,
    settled_at    timestamptz, -- and when all its orders were settled
    CONSTRAINT items_window CHECK (opens_at < closes_at),
    CONSTRAINT items_price CHECK (price_fen > 0 AND points_price >= 0),
    -- The constraint that makes an oversell impossible: units are taken from stock in the
    -- transaction that inserts the order, and stock cannot fall below zero.
    CONSTRAINT items_stock CHECK (stock BETWEEN 0 AND total),
    CONSTRAINT items_limit CHECK ("limit" >= 1),
    CONSTRAINT items_pay_timeout CHECK (pay_timeout >= interval '1 second')
) WITH (fillfactor = 50); -- room for the many versions of a hot row on its own page

CREATE INDEX items_by_sale ON items (sale_id);
CREATE INDEX items_by_closing ON items (closes_at); -- live items: what reconciliation walks
CREATE INDEX items_live ON items (id) WHERE retired_at IS NULL; -- what audits walk
CREATE INDEX items_to_settle ON items (id) WHERE retired_at IS NOT NULL AND settled_at IS NULL;

-- How a shop shows an item. Apart from the item, whose row is written with every batch of orders
-- and should stay narrow.
CREATE TABLE item_details (
    item_id        bigint NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    list_price_fen bigint, -- what it costs elsewhere
    image_url      text,
    description    text,
    names          jsonb, -- of the product, by language
    descriptions   jsonb, -- by language
    CONSTRAINT item_details_pkey PRIMARY KEY (item_id),
    CONSTRAINT item_details_list_price CHECK (list_price_fen > 0),
    CONSTRAINT item_details_image_url_length CHECK (length(image_url) BETWEEN 1 AND 2048),
    CONSTRAINT item_details_description_length CHECK (length(description) BETWEEN 1 AND 2000),
    CONSTRAINT item_details_names_object CHECK (jsonb_typeof(names) = 'object'),
    CONSTRAINT item_details_descriptions_object CHECK (jsonb_typeof(descriptions) = 'object')
);

-- One row an order, wide columns last so that the fixed ones pack without padding.
-- item_id has no foreign key on purpose: the insert joins items, so a live order always has
-- its item, while a rejected order may name an item that never existed; and the trigger of a
-- foreign key would cost a row lock for each order of the hottest statement.
CREATE TABLE orders (
    order_no        bigint NOT NULL,
    item_id         bigint NOT NULL,
    amount_fen      bigint NOT NULL,
    amount_points   bigint NOT NULL,
    generation      bigint NOT NULL,
    sequence        bigint NOT NULL,
    reserved_at     timestamptz NOT NULL, -- Redis time of the decision
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    pay_deadline    timestamptz NOT NULL,
    quantity        integer NOT NULL,
    single          boolean NOT NULL, -- the item's limit is 1: at most one live order a user
    settled         boolean NOT NULL DEFAULT false, -- the item has left Redis: no order comes any more
    status          text NOT NULL COLLATE "C",
    user_id         text NOT NULL COLLATE "C",
    idempotency_key text COLLATE "C", -- kept so that a rebuilt item still replays
    reason          text,             -- of a rejection or cancellation
    CONSTRAINT orders_pkey PRIMARY KEY (order_no),
    CONSTRAINT orders_order_no CHECK (order_no > 0), -- 0 is a slot of the index below
    CONSTRAINT orders_status CHECK (status IN
        ('unpaid', 'paid', 'refunding', 'refunded', 'cancelled', 'rejected')),
    CONSTRAINT orders_quantity CHECK (quantity >= 1),
    CONSTRAINT orders_amount CHECK (amount_fen >= 0 AND amount_points >= 0),
    CONSTRAINT orders_user_length CHECK (length(user_id) BETWEEN 1 AND 64)
);

-- Two jobs for the price of one index, which is the dearest part of an insert (users arrive in
-- random order): a live order of an item whose limit is 1 takes the slot 0, which only one
-- order a user and item can have; every other order takes a slot of its own. And "my orders"
-- are the rows of one user: few enough to sort when they are read. It holds the orders of items
-- that are on sale or were lately, so it stays in memory however long the history is.
CREATE UNIQUE INDEX orders_one_live_each ON orders (user_id, item_id,
    (CASE WHEN single AND status IN ('unpaid', 'paid', 'refunding') THEN 0 ELSE order_no END))
    WHERE NOT settled;
-- "My orders" of long ago. Nobody waits for what is written to it.
CREATE INDEX orders_settled_by_user ON orders (user_id, order_no) WHERE settled;
-- The orders of an item, for rebuilds and audits, in the order of their decision; and which sequence
-- was given twice. Not unique: both orders are good, it is Redis that must be rebuilt.
CREATE INDEX orders_by_item ON orders (item_id, generation, sequence);
-- The next pay deadline; paid orders leave the index.
CREATE INDEX orders_due ON orders (pay_deadline) WHERE status = 'unpaid';

-- Sequences that Redis gave to orders which can be no rows of orders: dead letters that an operator
-- has dropped. With them every sequence of a generation is accounted for.
CREATE TABLE discarded (
    item_id    bigint NOT NULL,
    generation bigint NOT NULL,
    sequence   bigint NOT NULL,
    order_no   bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    quantity   integer NOT NULL,
    user_id    text NOT NULL COLLATE "C",
    reason     text NOT NULL,
    CONSTRAINT discarded_pkey PRIMARY KEY (item_id, generation, sequence)
);

-- What the orders of a generation were when it was over, because the item was rebuilt or left
-- Redis: the audit compares them for ever. digest is a sum over what never changes of an order;
-- orders that were rejected are left out, since one may still come too late.
CREATE TABLE seals (
    item_id    bigint NOT NULL,
    generation bigint NOT NULL,
    orders     bigint NOT NULL,
    digest     bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT seals_pkey PRIMARY KEY (item_id, generation)
);

-- Units that a user holds of an item whose limit is more than 1: the general form of the
-- unique index above, which cannot count. Written in the transaction that writes the order.
CREATE TABLE holdings (
    item_id bigint NOT NULL,
    user_id text NOT NULL COLLATE "C",
    units   integer NOT NULL,
    "limit" integer NOT NULL,
    CONSTRAINT holdings_pkey PRIMARY KEY (item_id, user_id),
    CONSTRAINT holdings_within_limit CHECK (units BETWEEN 0 AND "limit")
);

-- Orders that came under the number of another order, as when two processes share a node id. They
-- are rejected and their units released; their sequences count as those of any order.
CREATE TABLE collisions (
    order_no    bigint NOT NULL,
    item_id     bigint NOT NULL,
    generation  bigint NOT NULL,
    sequence    bigint NOT NULL,
    reserved_at timestamptz NOT NULL, -- Redis time of the decision
    created_at  timestamptz NOT NULL DEFAULT now(),
    quantity    integer NOT NULL,
    user_id     text NOT NULL COLLATE "C",
    CONSTRAINT collisions_pkey PRIMARY KEY (order_no, item_id, user_id),
    CONSTRAINT collisions_quantity CHECK (quantity >= 1)
);

-- Effects on Redis that a committed transaction owes. The relay carries them out in the order
-- of their ids and deletes each row when its effect stands, so at rest the table is empty.
-- The id of a restock is its number in Redis: it is drawn while the item's row is locked, so
-- the numbers of one item ascend in the order of their commits.
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    item_id    bigint NOT NULL,
    order_no   bigint,
    quantity   integer NOT NULL,
    user_id    text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_kind CHECK (kind IN ('release', 'restock', 'pause', 'resume')),
    CONSTRAINT outbox_release_names_order
        CHECK (kind <> 'release' OR (order_no IS NOT NULL AND user_id IS NOT NULL)),
    CONSTRAINT outbox_quantity CHECK (quantity >= 0)
);

-- An order's units are given back at most once. User and item tell an order from one that has
-- collided with it.
CREATE UNIQUE INDEX outbox_release_once ON outbox (order_no, item_id, user_id) WHERE kind = 'release';
CREATE INDEX outbox_by_item ON outbox (item_id);

-- Payments with Alipay that were started: a pay page was handed out, so there may be a trade
-- that somebody pays. While the row is open the order's timeout waits for the trade to be closed.
CREATE TABLE charges (
    order_no   bigint NOT NULL REFERENCES orders (order_no),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL, -- after it nobody can start a trade with the page
    next_at    timestamptz NOT NULL, -- when the trade is to be closed: the deadline, or at once
    attempts   integer NOT NULL DEFAULT 0,
    state      text NOT NULL COLLATE "C" DEFAULT 'open',
    CONSTRAINT charges_pkey PRIMARY KEY (order_no),
    CONSTRAINT charges_state CHECK (state IN ('open', 'paid', 'closed'))
);

CREATE INDEX charges_due ON charges (next_at) WHERE state = 'open';

-- The payment log: money and points that have arrived, one row a trade, never changed. What
-- pays the order is confirmed; what comes for an order that is over, or paid already, is surplus
-- and is given back.
CREATE TABLE payments (
    order_no   bigint NOT NULL REFERENCES orders (order_no),
    amount     bigint NOT NULL, -- fen, or points
    paid_at    timestamptz NOT NULL, -- by the provider's clock
    created_at timestamptz NOT NULL DEFAULT now(),
    surplus    boolean NOT NULL,
    method     text NOT NULL COLLATE "C",
    trade_no   text NOT NULL COLLATE "C",
    -- Each trade number is used once, whatever order it is presented for.
    CONSTRAINT payments_pkey PRIMARY KEY (method, trade_no),
    -- What a refund refers to, so that it cannot be of another order or amount.
    CONSTRAINT payments_whole UNIQUE (method, trade_no, order_no, amount, surplus),
    CONSTRAINT payments_amount CHECK (amount > 0),
    CONSTRAINT payments_method CHECK (method IN ('alipay', 'points')),
    CONSTRAINT payments_trade_no_length CHECK (length(trade_no) BETWEEN 1 AND 64),
    -- Points are taken only after the order was paid with them: they never come late.
    CONSTRAINT payments_points_in_time CHECK (method <> 'points' OR NOT surplus)
);

-- An order is paid once.
CREATE UNIQUE INDEX payments_one_confirmed ON payments (order_no) WHERE NOT surplus;
CREATE INDEX payments_by_order ON payments (order_no);

-- The refund log. The number is derived from the order, so a repetition asks for the same refund
-- again; the foreign key makes every refund, with what went back without us, exactly its payment,
-- the unique constraint once.
CREATE TABLE refunds (
    order_no   bigint NOT NULL,
    amount     bigint NOT NULL, -- that we give back
    elsewhere  bigint NOT NULL DEFAULT 0, -- that went back without us, when this was last asked for
    whole      bigint NOT NULL GENERATED ALWAYS AS (amount + elsewhere) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at    timestamptz,
    next_at    timestamptz NOT NULL, -- when it is asked for again
    attempts   integer NOT NULL DEFAULT 0,
    surplus    boolean NOT NULL, -- the order stays as it is
    state      text NOT NULL COLLATE "C" DEFAULT 'due',
    method     text NOT NULL COLLATE "C",
    trade_no   text NOT NULL COLLATE "C",
    refund_no  text NOT NULL COLLATE "C",
    reason     text NOT NULL,
    fault      text, -- why the provider refused
    CONSTRAINT refunds_pkey PRIMARY KEY (refund_no),
    CONSTRAINT refunds_once UNIQUE (method, trade_no),
    CONSTRAINT refunds_amount CHECK (amount >= 0 AND elsewhere >= 0),
    CONSTRAINT refunds_of_payment FOREIGN KEY (method, trade_no, order_no, whole, surplus)
        REFERENCES payments (method, trade_no, order_no, amount, surplus),
    CONSTRAINT refunds_state CHECK (CASE state
        WHEN 'due' THEN done_at IS NULL
        WHEN 'done' THEN done_at IS NOT NULL
        WHEN 'refused' THEN done_at IS NULL AND fault IS NOT NULL
        ELSE false END),
    CONSTRAINT refunds_reason_length CHECK (length(reason) <= 200)
);

CREATE INDEX refunds_due ON refunds (next_at) WHERE state = 'due';
CREATE INDEX refunds_refused ON refunds (refund_no) WHERE state = 'refused';
CREATE INDEX refunds_by_order ON refunds (order_no);

-- Money that the provider has given back without being asked by us, as when somebody refunds in
-- its console. It may be for an order that nobody has paid as far as we know.
CREATE TABLE foreign_refunds (
    order_no    bigint NOT NULL REFERENCES orders (order_no),
    amount      bigint NOT NULL,
    refunded_at timestamptz NOT NULL, -- by the provider's clock
    created_at  timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz, -- when an operator has seen to it
    method      text NOT NULL COLLATE "C",
    trade_no    text NOT NULL COLLATE "C",
    refund_no   text NOT NULL COLLATE "C", -- ours for it
    provider_no text COLLATE "C", -- the provider's, if it told one
    CONSTRAINT foreign_refunds_pkey PRIMARY KEY (refund_no),
    CONSTRAINT foreign_refunds_once UNIQUE (method, trade_no, provider_no),
    CONSTRAINT foreign_refunds_amount CHECK (amount > 0),
    CONSTRAINT foreign_refunds_trade_no_length CHECK (length(trade_no) BETWEEN 1 AND 64),
    CONSTRAINT foreign_refunds_provider_no_length CHECK (length(provider_no) BETWEEN 1 AND 200)
);

CREATE INDEX foreign_refunds_by_order ON foreign_refunds (order_no);
CREATE INDEX foreign_refunds_open ON foreign_refunds (refund_no) WHERE settled_at IS NULL;

-- Sales that were cancelled as a whole. Their items are paused for good, nobody can begin to pay,
-- and a worker walks their orders, item by item in the order of their decision: unpaid ones are
-- cancelled, paid ones refunded. The place that it has come to is committed with what it did.
CREATE TABLE sale_cancellations (
    sale_id    bigint NOT NULL REFERENCES sales (id),
    item_id    bigint NOT NULL DEFAULT 0, -- the place: the last order that was looked at
    generation bigint NOT NULL DEFAULT 0,
    sequence   bigint NOT NULL DEFAULT 0,
    order_no   bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    walked_at  timestamptz, -- when the last order was looked at
    reason     text NOT NULL,
    CONSTRAINT sale_cancellations_pkey PRIMARY KEY (sale_id),
    CONSTRAINT sale_cancellations_reason_length CHECK (length(reason) BETWEEN 1 AND 200)
);

-- Payments with points span two databases: this is the coordinator's half. The row is written
-- before the first step, and whoever finds one that is not done finishes it. 'confirming' is set
-- by the transaction that makes the order paid, and 'cancelling' only once the order cannot be.
CREATE TABLE points_intents (
    order_no   bigint NOT NULL REFERENCES orders (order_no),
    points     bigint NOT NULL,
    trade_no   bigint NOT NULL, -- of the debit
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    next_at    timestamptz NOT NULL, -- when a recovery takes it up
    attempts   integer NOT NULL DEFAULT 0,
    state      text NOT NULL COLLATE "C" DEFAULT 'trying',
    user_id    text NOT NULL COLLATE "C",
    CONSTRAINT points_intents_pkey PRIMARY KEY (order_no), -- one payment with points an order
    CONSTRAINT points_intents_trade_no_unique UNIQUE (trade_no),
    CONSTRAINT points_intents_points CHECK (points > 0),
    CONSTRAINT points_intents_trade_no CHECK (trade_no > 0),
    CONSTRAINT points_intents_state CHECK (state IN
        ('trying', 'short', 'confirming', 'cancelling', 'done'))
);

CREATE INDEX points_intents_due ON points_intents (next_at) WHERE state <> 'done';

-- Under which node id each process numbers orders: a number is the millisecond, the id and a step.
-- Whoever holds an id owns its numbers up to until_ms; who holds it next starts above that. The
-- ids are kept here, because Redis may forget.
CREATE TABLE nodes (
    id         integer NOT NULL,
    until_ms   bigint NOT NULL, -- milliseconds since 1970: no number under the id is of a later one
    leased_at  timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    owner      text COLLATE "C", -- NULL: given back
    name       text NOT NULL,    -- host/process id
    CONSTRAINT nodes_pkey PRIMARY KEY (id),
    CONSTRAINT nodes_id CHECK (id BETWEEN 0 AND 1023),
    CONSTRAINT nodes_owner_unique UNIQUE (owner)
);

-- One row: what all processes must agree on, and Redis may not forget.
CREATE TABLE installation (
    one        boolean NOT NULL DEFAULT true,
    partitions integer NOT NULL, -- over which the items are spread in Redis
    CONSTRAINT installation_pkey PRIMARY KEY (one),
    CONSTRAINT installation_one CHECK (one),
    CONSTRAINT installation_partitions CHECK (partitions BETWEEN 1 AND 1024)
);

-- Requests to change something that came with an idempotency key. What the change was is written by
-- the transaction that makes it, so that whoever asks again, after a process that died in between,
-- finds it made. Forgotten after 24 hours.
CREATE TABLE attempts (
    created_at  timestamptz NOT NULL DEFAULT now(),
    status      integer, -- of the answer; NULL: not answered yet
    scope       text NOT NULL COLLATE "C", -- whose keys: admin, or user: and the user
    key         text NOT NULL COLLATE "C",
    fingerprint bytea NOT NULL, -- of the request
    result      jsonb, -- what the transaction did; NULL: it has not committed
    body        bytea, -- of the answer
    CONSTRAINT attempts_pkey PRIMARY KEY (scope, key)
);

CREATE INDEX attempts_by_age ON attempts (created_at);

-- What operators did, and what came of it. Never changed once the outcome is known.
CREATE TABLE actions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    who        text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    detail     text NOT NULL, -- what was asked for
    outcome    text, -- NULL: nobody knows
    request_id text,
    CONSTRAINT actions_length CHECK (length(who) <= 64 AND length(action) <= 100 AND length(target) <= 1000
        AND length(detail) <= 1000 AND length(outcome) <= 1000 AND length(request_id) <= 100)
);
