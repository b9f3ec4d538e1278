"""Cuts cloudstack-sim's contract and world out of what a real server was recorded saying: FOLDER is where the contracts lie.

    python3 cut-cloudstack.py FOLDER        (needs zstd)
"""

import json
import os
import subprocess
import sys
C = sys.argv[1].rstrip('/') + '/'
OUT = os.path.dirname(os.path.abspath(__file__)) + '/'
used='''listApis listCapabilities listZones listPods listClusters listHosts listStoragePools listNetworks listServiceOfferings listDiskOfferings listOsTypes listTemplates listIsos listVolumes listVirtualMachines listTags createTags deleteTags listResourceLimits listCapacity listAsyncJobs queryAsyncJobResult deployVirtualMachine startVirtualMachine stopVirtualMachine rebootVirtualMachine destroyVirtualMachine expungeVirtualMachine recoverVirtualMachine updateVirtualMachine listNics addNicToVirtualMachine removeNicFromVirtualMachine updateVmNicIp createVolume attachVolume detachVolume deleteVolume destroyVolume recoverVolume resizeVolume updateVolume migrateVolume createSnapshot listSnapshots deleteSnapshot revertSnapshot listUsers listAccounts listDomains listDetailOptions listConfigurations listEvents listHypervisors updateResourceLimit'''.split()
L=json.load(open(C+'cloudstack-listApis-4.22.0-recorded.json')); L=L.get('listapisresponse',L)['api']
by={a['name']:a for a in L}
assert all(u in by for u in used),[u for u in used if u not in by]
contract={'commands':[by[u] for u in sorted(used)],'others':sorted(a for a in by if a not in used)}
R=[json.loads(l) for l in open(C+'cloudstack-recorded-4.22.0.jsonl')]
world={}
def first(scn,cmd,params=None,key=None):
    for r in R:
        if r.get('scenario','').startswith(scn) and r.get('command')==cmd and (params is None or r['params']==params):
            return list(r['answer'].values())[0][key]
world['zone']=first('03','listZones',{},'zone')
world['pod']=first('03','listPods',None,'pod')
world['cluster']=first('03','listClusters',None,'cluster')
world['host']=first('03','listHosts',{'type':'Routing'},'host')
world['storagepool']=first('03','listStoragePools',None,'storagepool')
world['serviceoffering']=first('03','listServiceOfferings',None,'serviceoffering')
world['diskoffering']=first('03','listDiskOfferings',None,'diskoffering')
world['template']=first('03','listTemplates',{'templatefilter':'all'},'template')
world['iso']=first('03','listIsos',{'isofilter':'executable'},'iso')
world['user']=first('03','listUsers',None,'user')
world['account']=first('03','listAccounts',None,'account')
world['domain']=first('03','listDomains',None,'domain')
world['capability']=[first('03','listCapabilities',None,'capability')]
world['hypervisor']=first('03','listHypervisors',None,'hypervisor')
world['capacity']=first('03','listCapacity',None,'capacity')
world['resourcelimit']=first('03','listResourceLimits',None,'resourcelimit')
world['detailoptions']=[first('03','listDetailOptions',{'resourcetype':'UserVm'},'detailoptions')]
world['event']=first('03','listEvents',None,'event')[:3]
os={};cf={};nets={}
def walk(v):
    if isinstance(v,dict):
        for k,x in v.items():
            if k=='ostype' and isinstance(x,list):
                for o in x: os.setdefault(o['id'],o)
            elif k=='configuration' and isinstance(x,list):
                for o in x: cf.setdefault(o['name'],o)
            else: walk(x)
    elif isinstance(v,list):
        for x in v: walk(x)
for r in R:
    if r.get('scenario','')[:2] in('03',): walk(r.get('answer'))
for r in R:
    if r.get('scenario','').startswith('05') and r.get('command')=='createNetwork' and r['status']==200:
        n=r['answer']['createnetworkresponse']['network']; nets[n['id']]=n
lists=[r for r in R if r.get('scenario','').startswith('05') and r.get('command')=='listNetworks']
for r in lists:
    for n in list(r['answer'].values())[0]['network']: nets[n['id']]=n
world['network']=list(nets.values())
t=world['template'][0]
os.setdefault(t.get('ostypeid'),None)
world['ostype']=[o for o in os.values() if o]
need={x.get('ostypeid'):x.get('ostypename') for x in world['template']+world['iso']}
have={o['id'] for o in world['ostype']}
for i,n in need.items():
    if i and i not in have:
        o=dict(world['ostype'][0]); o.update(id=i,name=n,description=n); world['ostype'].append(o)
world['configuration']=list(cf.values())
fixed={'user':'3f1d4c5a-6d7e-4b1f-9c1a-1f6f0d6f5a01'}
for u in world['user']: u['id']=fixed['user']; u['apikey']='-'
for a in world['account']:
    for u in a.get('user',[]): u['id']=fixed['user']; [u.__setitem__(k,'-') for k in ('apikey','secretkey') if k in u]
assert 'REDACTED' not in json.dumps(world)
def put(name,obj):
    p=subprocess.run(['zstd','-19','-f','-q','-o',OUT+name],input=json.dumps(obj,ensure_ascii=False,separators=(',',':')).encode(),check=True)
put('cloudstack-contract-4.22.0.json.zst',contract)
put('cloudstack-world-4.22.0.json.zst',world)
