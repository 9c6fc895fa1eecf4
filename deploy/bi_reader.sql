-- A role for BI tools: it reads the views of the schema bi, and no table and no customer's words.
--
-- Run it as the database's owner once Undertone has made the views (any command or worker does), and again after an
-- upgrade that brings new views:
--
--   psql "$DATABASE" --set ON_ERROR_STOP=1 --file deploy/bi_reader.sql
--   docker compose -f deploy/compose.yaml exec -T postgres psql -U undertone -v ON_ERROR_STOP=1 < deploy/bi_reader.sql
--
-- Then give it a password, which a script would write into a log: \password bi_reader
begin;

do $$
begin
  if not exists (select from pg_roles where rolname = 'bi_reader') then
    create role bi_reader login nosuperuser nocreatedb nocreaterole noreplication;
  end if;
end
$$;

-- a dashboard that asks too much gives up, and takes no locks for long
alter role bi_reader set statement_timeout = '60s';
alter role bi_reader set default_transaction_read_only = on;
alter role bi_reader set search_path = bi;

grant usage on schema bi to bi_reader;
grant select on all tables in schema bi to bi_reader;
-- what customers wrote is for few: grant it to a role of their own, `grant select on bi.message_texts to …`
revoke all on bi.message_texts from bi_reader;

commit;
