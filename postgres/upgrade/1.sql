-- From the first schema to the next. Orders, money and what is on sale stay as they are; Redis must
-- be drained first, because its streams have another form (flashsale work refuses the earlier one).

ALTER TABLE items
    ADD COLUMN rolled_back boolean NOT NULL DEFAULT false,
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN settled_at timestamptz;

ALTER TABLE orders
    ADD COLUMN settled boolean NOT NULL DEFAULT false;

ALTER TABLE refunds
    ADD COLUMN elsewhere bigint NOT NULL DEFAULT 0,
    ADD COLUMN whole bigint NOT NULL GENERATED ALWAYS AS (amount + elsewhere) STORED;

ALTER TABLE refunds DROP CONSTRAINT refunds_of_payment, ADD CONSTRAINT refunds_of_payment FOREIGN KEY (method, trade_no, order_no, whole, surplus)
    REFERENCES payments (method, trade_no, order_no, amount, surplus);

ALTER TABLE refunds ADD CONSTRAINT refunds_amount CHECK (amount >= 0 AND elsewhere >= 0);

ALTER TABLE sales
    ADD COLUMN hide_left boolean NOT NULL DEFAULT false,
    ADD COLUMN names jsonb;

ALTER TABLE sales ADD CONSTRAINT sales_names_object CHECK (jsonb_typeof(names) = 'object');

DROP INDEX orders_one_live_each;
CREATE UNIQUE INDEX orders_one_live_each ON orders (user_id, item_id,
    (CASE WHEN single AND status IN ('unpaid', 'paid', 'refunding') THEN 0 ELSE order_no END))
    WHERE NOT settled;

DROP INDEX outbox_release_once;
CREATE UNIQUE INDEX outbox_release_once ON outbox (order_no, item_id, user_id) WHERE kind = 'release';

CREATE TABLE item_details (
    item_id        bigint NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    list_price_fen bigint,
    image_url      text,
    description    text,
    names          jsonb,
    descriptions   jsonb,
    CONSTRAINT item_details_pkey PRIMARY KEY (item_id),
    CONSTRAINT item_details_list_price CHECK (list_price_fen > 0),
    CONSTRAINT item_details_image_url_length CHECK (length(image_url) BETWEEN 1 AND 2048),
    CONSTRAINT item_details_description_length CHECK (length(description) BETWEEN 1 AND 2000),
    CONSTRAINT item_details_names_object CHECK (jsonb_typeof(names) = 'object'),
    CONSTRAINT item_details_descriptions_object CHECK (jsonb_typeof(descriptions) = 'object')
);

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

CREATE TABLE seals (
    item_id    bigint NOT NULL,
    generation bigint NOT NULL,
    orders     bigint NOT NULL,
    digest     bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT seals_pkey PRIMARY KEY (item_id, generation)
);

CREATE TABLE collisions (
    order_no    bigint NOT NULL,
    item_id     bigint NOT NULL,
    generation  bigint NOT NULL,
    sequence    bigint NOT NULL,
    reserved_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    quantity    integer NOT NULL,
    user_id     text NOT NULL COLLATE "C",
    CONSTRAINT collisions_pkey PRIMARY KEY (order_no, item_id, user_id),
    CONSTRAINT collisions_quantity CHECK (quantity >= 1)
);

CREATE TABLE foreign_refunds (
    order_no    bigint NOT NULL REFERENCES orders (order_no),
    amount      bigint NOT NULL,
    refunded_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz,
    method      text NOT NULL COLLATE "C",
    trade_no    text NOT NULL COLLATE "C",
    refund_no   text NOT NULL COLLATE "C",
    provider_no text COLLATE "C",
    CONSTRAINT foreign_refunds_pkey PRIMARY KEY (refund_no),
    CONSTRAINT foreign_refunds_once UNIQUE (method, trade_no, provider_no),
    CONSTRAINT foreign_refunds_amount CHECK (amount > 0),
    CONSTRAINT foreign_refunds_trade_no_length CHECK (length(trade_no) BETWEEN 1 AND 64),
    CONSTRAINT foreign_refunds_provider_no_length CHECK (length(provider_no) BETWEEN 1 AND 200)
);

CREATE TABLE sale_cancellations (
    sale_id    bigint NOT NULL REFERENCES sales (id),
    item_id    bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    sequence   bigint NOT NULL DEFAULT 0,
    order_no   bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    walked_at  timestamptz,
    reason     text NOT NULL,
    CONSTRAINT sale_cancellations_pkey PRIMARY KEY (sale_id),
    CONSTRAINT sale_cancellations_reason_length CHECK (length(reason) BETWEEN 1 AND 200)
);

CREATE TABLE nodes (
    id         integer NOT NULL,
    until_ms   bigint NOT NULL,
    leased_at  timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    owner      text COLLATE "C",
    name       text NOT NULL,
    CONSTRAINT nodes_pkey PRIMARY KEY (id),
    CONSTRAINT nodes_id CHECK (id BETWEEN 0 AND 1023),
    CONSTRAINT nodes_owner_unique UNIQUE (owner)
);

CREATE TABLE installation (
    one        boolean NOT NULL DEFAULT true,
    partitions integer NOT NULL,
    CONSTRAINT installation_pkey PRIMARY KEY (one),
    CONSTRAINT installation_one CHECK (one),
    CONSTRAINT installation_partitions CHECK (partitions BETWEEN 1 AND 1024)
);

CREATE TABLE attempts (
    created_at  timestamptz NOT NULL DEFAULT now(),
    status      integer,
    scope       text NOT NULL COLLATE "C",
    key         text NOT NULL COLLATE "C",
    fingerprint bytea NOT NULL,
    result      jsonb,
    body        bytea,
    CONSTRAINT attempts_pkey PRIMARY KEY (scope, key)
);

CREATE INDEX attempts_by_age ON attempts (created_at);

CREATE TABLE actions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    who        text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    detail     text NOT NULL,
    outcome    text,
    request_id text,
    CONSTRAINT actions_length CHECK (length(who) <= 64 AND length(action) <= 100 AND length(target) <= 1000
        AND length(detail) <= 1000 AND length(outcome) <= 1000 AND length(request_id) <= 100)
);

CREATE INDEX sales_by_closing ON sales (closes_at);

CREATE INDEX items_live ON items (id) WHERE retired_at IS NULL;

CREATE INDEX items_to_settle ON items (id) WHERE retired_at IS NOT NULL AND settled_at IS NULL;

CREATE INDEX orders_settled_by_user ON orders (user_id, order_no) WHERE settled;

CREATE INDEX orders_by_item ON orders (item_id, generation, sequence);

CREATE INDEX refunds_refused ON refunds (refund_no) WHERE state = 'refused';

CREATE INDEX foreign_refunds_by_order ON foreign_refunds (order_no);

CREATE INDEX foreign_refunds_open ON foreign_refunds (refund_no) WHERE settled_at IS NULL;
