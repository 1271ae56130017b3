// An agent that does a little of everything with Google's Node client, in a data set of its own, and prints what it was
// answered, a line for each step. What an emulator can't do is an answer too.
//
//     node everything.cjs DATASET
//
// It knows nothing of a proxy or a record; its token comes from the environment, as in a pod.
const fs = require('node:fs');
const path = require('node:path');
const { BigQuery } = require('@google-cloud/bigquery');
const { OAuth2Client } = require('google-auth-library');

const DATASET = process.argv[2];
const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: process.env.CLOUDSDK_AUTH_ACCESS_TOKEN });
// No repeated attempts: what a call was answered is printed.
const bigquery = new BigQuery({ projectId: process.env.GOOGLE_CLOUD_PROJECT, authClient, autoRetry: false, maxRetries: 0 });
const table = (name) => bigquery.dataset(DATASET).table(name);
const SCHEMA = [{ name: 'id', type: 'INT64' }, { name: 'name', type: 'STRING' }];

async function loaded(name, rows) {
  const file = path.join(process.env.HOME, `${name}-${DATASET}.json`);
  fs.writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
  const [job] = await table('people').load(file, { sourceFormat: 'NEWLINE_DELIMITED_JSON', schema: { fields: SCHEMA } });
  return job.statistics?.load?.outputRows;
}

const STEPS = {
  make_dataset: async () => (await bigquery.createDataset(DATASET))[0].id,
  query: async () => (await bigquery.query("SELECT 1 AS a, 'x' AS b"))[0],
  parameters: async () => (await bigquery.query({ query: 'SELECT @n AS n, @s AS s', params: { n: 7, s: 'p' } }))[0],
  job: async () => {
    const [job] = await bigquery.createQueryJob("SELECT 2 AS a, 'ü' AS b");
    return (await job.getQueryResults())[0];
  },
  pages: async () => {
    const [job] = await bigquery.createQueryJob('SELECT x FROM UNNEST(GENERATE_ARRAY(1, 2500)) AS x ORDER BY x');
    const [rows] = await job.getQueryResults({ maxResults: 1000, autoPaginate: true });
    return [rows.length, rows[0].x, rows.at(-1).x];
  },
  dry_run: async () => {
    const [job] = await bigquery.createQueryJob({ query: 'SELECT status FROM billing.invoices', dryRun: true });
    return job.metadata.statistics.totalBytesProcessed;
  },
  make_table: async () => (await bigquery.dataset(DATASET).createTable('people', { schema: SCHEMA }))[0].id,
  load: () => loaded('load', Array.from({ length: 500 }, (_, id) => ({ id, name: 'v'.repeat(50) }))),
  insert_all: async () => (await table('people').insert([{ id: 9002, name: 's' }, { id: 9003, name: 't' }]))[0].kind,
  export_rows: async () => {
    const [first] = await table('people').getRows({ maxResults: 200, autoPaginate: true });
    // Which rows come first nobody promises: only all of them are compared by what is in them.
    const [all] = await table('people').getRows({ maxResults: 1000 });
    return [first.length, all.length, all.reduce((sum, row) => sum + Number(row.id), 0)];
  },
  dml: async () => (await bigquery.query(`DELETE FROM ${DATASET}.people WHERE id < 100`))[0],
  copy: async () => (await table('people').copy(table('copied')))[0].status.state,
  extract: async () => {
    const [job] = await bigquery.createJob({
      configuration: {
        extract: {
          sourceTable: { projectId: bigquery.projectId, datasetId: DATASET, tableId: 'people' },
          destinationUris: [`gs://exports/${DATASET}-*.csv`],
        },
      },
    });
    return (await job.promise())[0].status.state;
  },
  script: async () => (await bigquery.query('DECLARE n INT64 DEFAULT 3; SET n = n + 1; SELECT n AS n;'))[0],
  bad_sql: async () => (await bigquery.query('SELEC 1'))[0],
  no_table: async () => (await bigquery.query(`SELECT * FROM ${DATASET}.nothing`))[0],
  listing: async () => (await bigquery.dataset(DATASET).getTables())[0].map((found) => found.id).sort(),
  remove: async () => {
    await bigquery.dataset(DATASET).delete({ force: true });
    return 'done';
  },
};

async function main() {
  for (const [name, step] of Object.entries(STEPS)) {
    try {
      console.log(`${name}: ${JSON.stringify(await step())}`);
    } catch (error) {
      console.log(`${name}: ${error.code ?? error.name}: ${JSON.stringify(error.message)}`);
    }
  }
}

main();
